"""Tokens that a model drafts for itself, and what became of them.

Self-speculative decoding (Stern et al. 2018, Leviathan et al. 2023): the drafted tokens go through
the model together with the newest one. A draft is accepted if it is the token that is chosen at its
place anyway, so the text is what it is without drafts; a rejected one is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from shared.text import plural


class Drafter(Protocol):
    """Guesses the tokens after the newest one. R rows, W positions, D width."""

    @property
    def heads(self) -> int:
        """How many tokens it drafts."""

    @property
    def window(self) -> int:
        """How many of the last positions it looks at, at most."""

    def draft(self, hidden_RWD: Tensor, next_RW: Tensor) -> list[list[int]]:
        """The drafts of each row, nearest first.

        `hidden_RWD` are the last hidden states, `next_RW` the tokens that were chosen after each.
        """


@dataclass
class Drafted:
    """Counts: forward passes that chose tokens, and drafts made and accepted."""

    passes: int = 0
    drafted: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float:
        """The share of drafts that were accepted; 0 without any."""
        return self.accepted / self.drafted if self.drafted else 0.0

    def __str__(self) -> str:
        """For people: how many drafts were accepted, and tokens per forward pass."""
        per_pass = (self.passes + self.accepted) / max(1, self.passes)
        return (
            f"{self.accepted} of {plural(self.drafted, 'drafted token')} accepted "
            f"({100 * self.acceptance:.0f} %): {per_pass:.2f} tokens per pass"
        )
