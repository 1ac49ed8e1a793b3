"""When weights are predicted, and whether a prediction stands. Loads no torch.

    full     real steps, `every` of them between two predictions
    predict  one step without data: the weights are predicted
    correct  `correct` real steps, whose losses decide: if their mean lies above the mean of those
             before the prediction by more than `band` standard deviations, or one of them is not
             finite, weights and optimizer become what they were before the prediction

After a rollback the next predictions are half as strong; after `rollbacks` of them nothing is
predicted any more.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from trainer.config.schema import HybridConfig

Verdict = Literal["none", "waiting", "accepted", "rejected"]
CAUTIOUS = 5  # predictions at half strength after a rollback


@dataclass
class Cycle:
    """Where a run is between predictions. `since` counts real steps since the last one or its
    rollback, `left` those that still judge it; `before` and `after` are losses. `predictor` is the
    one whose tensors are kept."""

    since: int = 0
    left: int = 0
    made: int = 0
    accepted: int = 0
    rolled_back: int = 0
    cautious: int = 0
    off: bool = False
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    predictor: str = ""

    @classmethod
    def read(cls, saved: Mapping[str, Any]) -> Cycle:
        """From what a checkpoint holds."""
        return cls(**saved)

    def is_due(
        self, config: HybridConfig, step: int, max_steps: int, last: int | None = None
    ) -> bool:
        """Whether step `step` (1-based) is predicted. After step `last` the model grows."""
        begun = step > config.begin * max_steps
        # The steps that judge it have to come before the end, with the same model.
        before = max_steps if last is None else last
        ended = step > config.end * max_steps or step + config.correct > before
        ready = not self.off and not self.left and self.since >= config.every
        return begun and not ended and ready

    def ahead(self, steps: int) -> Cycle:
        """After so many more real steps, unless they decide on a prediction."""
        return replace(self, since=self.since + steps)

    def grown(self) -> Cycle:
        """With a larger model, of whose weights nothing was kept; the counts stay."""
        return replace(self, since=0, left=0, after=[])

    @property
    def strength(self) -> float:
        """How much of a prediction is taken."""
        return 0.5 if self.cautious else 1.0

    @property
    def confidence(self) -> float:
        """The share of predictions that stand, between 0 and 1 (by the rule of succession)."""
        return (self.accepted + 1) / (self.accepted + self.rolled_back + 2)

    def predicted(self, config: HybridConfig) -> None:
        """The weights have been predicted."""
        self.made += 1
        self.since, self.left = 0, config.correct
        self.after = []
        self.cautious = max(0, self.cautious - 1)

    def follow(self, config: HybridConfig, loss: float, *, finite: bool) -> Verdict:
        """Take in a real step; tells what it means for the last prediction."""
        self.since += 1
        if not self.left:
            if finite:
                self.before = [*self.before, loss][-config.every :]
            return "none"
        self.left -= 1
        self.after = [*self.after, loss]  # a saving thread may have the old list
        if finite and self.left:
            return "waiting"
        if finite and not self._above(config):
            self.accepted += 1
            self.before = [*self.before, *self.after][-config.every :]
            return "accepted"
        self.rolled_back += 1
        self.since, self.left, self.cautious = 0, 0, CAUTIOUS
        self.off = self.rolled_back >= config.rollbacks
        return "rejected"

    def _above(self, config: HybridConfig) -> bool:
        if len(self.before) < 2:
            return False
        mean, apart = statistics.fmean(self.before), statistics.stdev(self.before)
        # The mean of n losses spreads by 1 / sqrt(n) of what one does.
        bound = mean + config.band * apart / math.sqrt(len(self.after))
        return not statistics.fmean(self.after) <= bound
