"""The value axis: linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from monitor.chart.labels import log_labels, tick_labels
from monitor.data.envelope import Envelope, Scale, choose_scale, nice_ticks
from shared.run.metrics_rows import Floats


@dataclass(frozen=True)
class ValueScale:
    """Values from `low` to `high`, those of a logarithmic scale as powers of ten."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def fit(cls, envelopes: Iterable[Envelope], *, log: bool = False) -> ValueScale:
        """A scale for all `envelopes`; see `choose_scale` for what it leaves outside."""
        if not log:
            chosen = choose_scale(envelopes)
            return cls(chosen.low, chosen.high)
        chosen = choose_scale(_logarithm(e) for e in envelopes)
        if chosen == Scale(0.0, 1.0):
            return cls(0.0, 1.0, log=True)
        return cls(max(chosen.low, -323.0), min(chosen.high, 308.0), log=True)

    def place(self, values: Floats) -> Floats:
        """Where values lie: 0 at the bottom, 1 at the top, below and above where they are outside.

        What has no logarithm lies below the bottom. NaN stays NaN.
        """
        with np.errstate(all="ignore"):
            if self.log:
                values = np.where(values > 0, np.log10(values), np.where(values <= 0, -400, np.nan))
            return (values - self.low) / (self.high - self.low)

    def dots(self, values: Floats, rows: int) -> Floats:
        """The dot of each value, counted from the bottom; at the edge where it is outside."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.rint(np.clip(self.place(values), 0.0, 1.0) * (4 * rows - 1)))

    def row_of(self, value: float, rows: int) -> int:
        """The line, counted from the top, in which `value` is drawn."""
        return rows - 1 - int(self.dots(np.array([value]), rows)[0]) // 4

    def ticks(self, count: int) -> tuple[list[float], list[str]]:
        """About `count` round values and their labels."""
        if not self.log:
            ticks = nice_ticks(self.low, self.high, count)
            return ticks, tick_labels(ticks)
        span = self.high - self.low
        if span * 3 <= count or span < 1:
            within: tuple[float, ...] = (1, 2, 5)
            step = 1
        else:
            within, step = (1,), max(1, math.ceil(span / count))
        first = math.floor(self.low / step) * step
        powers = range(first, math.ceil(self.high) + 1, step)
        found = [m * 10.0**p for p in powers for m in within if p > -323]
        ticks = [t for t in found if self.low <= math.log10(t) <= self.high]
        if len(ticks) < 2:  # less than an octave: as close together as on a linear scale
            ticks = [t for t in nice_ticks(10.0**self.low, 10.0**self.high, count) if t > 0]
            return ticks, tick_labels(ticks)
        return ticks, log_labels(ticks)


def _logarithm(envelope: Envelope) -> Envelope:
    """The extremes as powers of ten; where the least has none, the greatest stands for both."""
    with np.errstate(all="ignore"):
        high = np.where(envelope.high > 0, np.log10(envelope.high), np.nan)
        low = np.where(envelope.low > 0, np.log10(envelope.low), high)
    return Envelope(low, high, envelope.marks, envelope.nonfinite)
