"""The value axis: linear or logarithmic, and which values it covers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shared.charts.labels import log_labels, tick_labels
from shared.charts.reduce import Envelope
from shared.charts.ticks import nice_ticks, value_log_ticks
from shared.run.metrics_rows import Floats

#: At most this share of the columns may be left outside the scale…
_OUTSIDE = 0.03
#: …and only if they would take more than this many times the height of all the others.
_DOMINATES = 1.5
#: The ratio of the largest to the smallest value above which a scale is logarithmic by default.
_LOG_FROM = 20.0
_LEAST_TICKS = 4  # asked for, which gives two or more
_FLAT = 1e-13  # of a value: a range as narrow is the rounding of a constant


@dataclass(frozen=True)
class ValueScale:
    """Values from `low` to `high`; on a logarithmic scale these are powers of ten."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def fit(
        cls, envelopes: Iterable[Envelope], *, log: bool | None = False, whole: bool = False
    ) -> ValueScale:
        """A scale for all `envelopes`.

        `log=None` chooses a logarithmic scale if all values are positive and differ by more than
        a factor of 20. `whole` covers every value; otherwise see `choose_range`.
        """
        found = list(envelopes)
        if log is None:
            low, high = _extremes(found)
            log = low > 0 and high / low > _LOG_FROM
        if not log:
            return cls(*choose_range(found, whole=whole))
        bottom, top = choose_range([_logarithm(e) for e in found], whole=whole)
        return cls(max(bottom, -323.0), min(top, 308.0), log=True)

    def place(self, values: Floats) -> Floats:
        """Where values lie: 0 at the bottom, 1 at the top, beyond if they are outside.

        A value without a logarithm lies below the bottom. NaN stays NaN.
        """
        with np.errstate(all="ignore"):
            if self.log:
                values = np.where(values > 0, np.log10(values), np.where(values <= 0, -400, np.nan))
            return (values - self.low) / (self.high - self.low)

    def dots(self, values: Floats, rows: int) -> Floats:
        """The dot of each value, counted from the bottom of `rows` braille cells.

        A value outside the scale gets the dot at the edge.
        """
        with np.errstate(invalid="ignore"):
            return np.asarray(np.rint(np.clip(self.place(values), 0.0, 1.0) * (4 * rows - 1)))

    def row_of(self, value: float, rows: int) -> int:
        """The row of cells, counted from the top, in which `value` is drawn."""
        return rows - 1 - int(self.dots(np.array([value]), rows)[0]) // 4

    def ticks(self, count: int) -> tuple[list[float], list[str]]:
        """About `count` round values and their labels."""
        if not self.log:
            ticks = nice_ticks(self.low, self.high, count)
            return ticks, tick_labels(ticks)
        ticks = value_log_ticks(self.low, self.high, count)
        if len(ticks) < 2:  # less than a decade: spaced as on a linear scale, at least two
            ticks = nice_ticks(10.0**self.low, 10.0**self.high, max(count, _LEAST_TICKS))
            ticks = [t for t in ticks if t > 0]
            return ticks, tick_labels(ticks)
        return ticks, log_labels(ticks)


def choose_range(envelopes: Iterable[Envelope], *, whole: bool = False) -> tuple[float, float]:
    """The least and the greatest value to show for all `envelopes`, both finite, rising.

    Unless `whole`, a few columns that would squash all others flat are left outside; a renderer
    marks them at the edge.
    """
    low, high = _finite(envelopes)
    if not len(low):
        return 0.0, 1.0
    bottom, top = float(low.min()), float(high.max())
    # "lower" and "higher" pick real values, so a bare majority of equal columns stays whole.
    usual_top = float(np.quantile(high, 1 - _OUTSIDE, method="lower"))
    usual_bottom = float(np.quantile(low, _OUTSIDE, method="higher"))
    usual = usual_top - usual_bottom
    if not whole and usual > 0 and len(low) >= 1 / _OUTSIDE:
        top = float(high[high <= usual_top + _DOMINATES * usual].max())
        bottom = float(low[low >= usual_bottom - _DOMINATES * usual].min())
    flat = top - bottom <= _FLAT * max(abs(top), abs(bottom))
    margin = abs(top) * 0.05 or 1.0 if flat else (top - bottom) * 0.03
    return bottom - margin, top + margin


def _finite(envelopes: Iterable[Envelope]) -> tuple[Floats, Floats]:
    lows: list[Floats] = []
    highs: list[Floats] = []
    for envelope in envelopes:
        finite = np.isfinite(envelope.low)
        lows.append(envelope.low[finite])
        highs.append(envelope.high[finite])
    if not lows:
        return np.empty(0), np.empty(0)
    return np.concatenate(lows), np.concatenate(highs)


def _extremes(envelopes: Sequence[Envelope]) -> tuple[float, float]:
    """The least and the greatest finite value; (0, 0) without any."""
    low, high = _finite(envelopes)
    return (float(low.min()), float(high.max())) if len(low) else (0.0, 0.0)


def _logarithm(envelope: Envelope) -> Envelope:
    """The extremes as powers of ten; if the least has none, the greatest stands for both."""
    with np.errstate(all="ignore"):
        high = np.where(envelope.high > 0, np.log10(envelope.high), np.nan)
        low = np.where(envelope.low > 0, np.log10(envelope.low), high)
    return Envelope(low, high, envelope.marks, envelope.nonfinite)
