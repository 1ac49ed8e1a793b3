"""The drafts of one text: made after each pass, from the hidden states that were right.

T positions of a pass, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.model.inference.drafts import Drafted, Drafter
from trainer.model.language_model import LanguageModel


class Drafting:
    """Remembers the last hidden states of a text and the tokens chosen after them."""

    def __init__(self, drafter: Drafter, counts: Drafted) -> None:
        self._drafter = drafter
        self._counts = counts
        self._hidden: Tensor | None = None  # (W, D)
        self._next: list[int] = []

    @classmethod
    def of(cls, model: LanguageModel, counts: Drafted) -> Drafting | None:
        """For a model that drafts; None for another."""
        drafter = model.drafter()
        return cls(drafter, counts) if drafter else None

    def drafts(self, most: int) -> list[int]:
        """Up to `most` tokens that may come next; none before the first pass."""
        if most < 1 or self._hidden is None:
            return []
        next_1W = torch.tensor([self._next], device=self._hidden.device)
        return self._drafter.draft(self._hidden[None], next_1W)[0][:most]

    def count(self, drafted: int, accepted: int) -> None:
        """Count a pass that chose tokens."""
        self._counts.passes += 1
        self._counts.drafted += drafted
        self._counts.accepted += accepted

    def look(self, hidden_TD: Tensor, following: Sequence[int]) -> None:
        """Take note of the newest hidden states, and of the token chosen after each."""
        window = self._drafter.window
        hidden_TD, following = hidden_TD[-window:], following[-window:]
        if self._hidden is not None:
            hidden_TD = torch.cat((self._hidden, hidden_TD))[-window:]
            following = [*self._next, *following][-window:]
        self._hidden, self._next = hidden_TD, list(following)
