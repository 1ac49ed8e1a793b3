"""A curriculum: the model first completes answers of which it gets most, then ever less of them.

As in StepCoder (Dou et al. 2024), which begins near the end of the reference answer and moves back
as the model succeeds. A reward that a model would hardly ever find is found from close by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from trainer.rewards.interface import Verdict

FIRST = 0.8  # of each answer is given at the beginning
STEP = 0.1  # less is given after a success
WINDOW = 4  # iterations whose success rates count
HARDER = 0.5  # success rate from which less is given
EASIER = 0.05  # success rate below which more is given again


class Codec(Protocol):
    """What a curriculum needs of a tokenizer."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""


@dataclass
class Curriculum:
    """How much of each answer is given now. `rates` are those of the iterations with this share."""

    share: float = FIRST
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Curriculum:
        """As `state` has it; from the beginning where that is empty."""
        if not state:
            return cls()
        return cls(float(state["share"]), deque(map(float, state["rates"]), maxlen=WINDOW))

    @property
    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"share": self.share, "rates": list(self.rates)}

    def take(self, success: float) -> None:
        """Take in the success rate of an iteration, and make the next one harder or easier."""
        self.rates.append(success)
        if len(self.rates) < WINDOW:
            return
        mean = sum(self.rates) / WINDOW
        share = self.share
        if mean >= HARDER:
            share = max(0.0, share - STEP)
        elif mean < EASIER:
            share = min(FIRST, share + STEP)
        if share != self.share:
            # Rounded: ten steps of 0.1 have to end at 0.
            self.share = round(share, 6)
            self.rates.clear()


def success_rate(verdicts: Sequence[Verdict]) -> float:
    """The share of answers that do what was asked: pass their tests, or compile where there are
    none."""
    done = [v.compiled if v.tested is None else v.tested for v in verdicts]
    return sum(done) / len(done) if done else 0.0


def given(ids: Sequence[int], share: float, codec: Codec, room: int) -> tuple[str, list[int]]:
    """The first `share` of an answer's tokens, as text and ids: at most that share of `room`.

    So a reference that is longer than the room leaves some of it for an answer.

    It is never cut in a character, and the last token is never given.
    """
    whole = codec.decode(ids)
    count = max(0, min(int(share * min(len(ids), room)), len(ids) - 1))
    while count:
        text = codec.decode(ids[:count])
        if whole.startswith(text):
            return text, list(ids[:count])
        count -= 1  # in the middle of a character
    return "", []
