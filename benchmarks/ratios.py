"""Ratios of measurements that were taken in turns: the middle one, and how sure it is."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and the bounds between which it lies at 95 %."""

    middle: float
    low: float
    high: float

    @property
    def as_change(self) -> str:
        """The bounds as `-1.0% to +2.0%`."""
        return f"{self.low - 1:+.1%} to {self.high - 1:+.1%}"


def ratio(rounds: Iterable[tuple[float, float]]) -> Ratio:
    """How many times the second figure of a round the first one is, over all rounds."""
    found = sorted(ours / theirs for ours, theirs in rounds)
    # Of n values in order, the middle of their distribution lies between the kth from either end
    # with a probability that the binomial distribution of one half gives.
    outside, total, k = 0.0, 2.0 ** len(found), 0
    while outside + math.comb(len(found), k) / total <= 0.025:
        outside += math.comb(len(found), k) / total
        k += 1
    k = max(k - 1, 0)
    return Ratio(statistics.median(found), found[k], found[-1 - k])
