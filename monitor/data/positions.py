"""Where the points of a series lie on another x axis: time or tokens instead of steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from monitor.data.pyramid import Growing, unchanged
from shared.charts.reduce import HUGE
from shared.run.metrics_rows import Floats, Ints, Series


class Positions:
    """Turns steps into x, from a series that holds x over steps.

    An axis has to rise: a clock that was set back, or a counter that starts again, does not. The
    order of the steps is kept, and points that would lie back on the axis are moved onto the
    nearest place that keeps the axis rising (see `rising`); `moved` counts them, for the chart to
    say so. Steps without an x of their own lie in a straight line between their neighbours, those
    before the first or after the last one on it. Nothing is dropped.
    """

    def __init__(self) -> None:
        self.moved = 0
        self._source: Series | None = None
        self._x = Growing()
        self._known: dict[str, tuple[Ints, Floats, int]] = {}

    def update(self, axis: Series) -> None:
        """Take the axis as it is now: in O(new) while it only grows and rises."""
        old = self._source
        if old is axis:
            return
        same = 0
        if old is not None and not self.moved:
            same = min(unchanged(old.values, axis.values), unchanged(old.steps, axis.steps))
        if same < self._x.size:
            self._x.cut(0)
            self._known.clear()
        new = axis.values[self._x.size :]
        newest = self._x.view()[-1:]
        if not is_rising(np.concatenate((newest, new))):
            self._x.cut(0)
            self._known.clear()
            new, self.moved = rising(axis.values)
        else:
            self.moved = 0
        self._x.append(new)
        self._source = axis

    @property
    def range(self) -> tuple[float, float] | None:
        """The first and the last x; None while there is none."""
        x = self._x.view()
        return (float(x[0]), float(x[-1])) if len(x) else None

    def of(self, series: Series) -> Floats | None:
        """The x of every point of `series`, never falling. None while the axis is empty."""
        axis, x = self._source, self._x.view()
        if axis is None or not len(x):
            return None
        if len(series) <= len(axis) and unchanged(axis.steps, series.steps) == len(series):
            return np.asarray(x[: len(series)])
        # What lay before the axis's end will not move any more.
        kept, done = 0, np.empty(0)
        if series.key in self._known:
            steps, done, settled = self._known[series.key]
            kept = min(unchanged(steps, series.steps), settled)
        new = np.interp(series.steps[kept:], axis.steps, x)
        found = np.concatenate((done[:kept], new)) if kept else new
        settled = int(np.searchsorted(series.steps, axis.steps[-1], "right"))
        self._known[series.key] = (series.steps, found, settled)
        return found


def is_rising(x: Floats) -> bool:
    """Whether all are finite, none too large, and none less than the one before."""
    return bool((np.abs(x) <= HUGE).all()) and not bool((x[1:] < x[:-1]).any())


def rising(x: NDArray[np.float64]) -> tuple[Floats, int]:
    """`x` made never to fall, and how many of them had to be moved for that.

    Either forwards, onto the greatest before them, or backwards, onto the least after them,
    whichever moves fewer: so one absurd time at the beginning or at the end bends only itself.
    Those that are not finite, or too large for a difference, go where their neighbours are.
    """
    with np.errstate(invalid="ignore"):
        finite = np.abs(x) <= HUGE
    if not finite.any():
        return np.zeros(len(x)), len(x)
    x = np.where(finite, x, np.nan)
    forwards = np.fmax.accumulate(x)
    backwards = np.fmin.accumulate(x[::-1])[::-1]
    forwards = np.where(np.isnan(forwards), backwards, forwards)  # before the first finite one
    backwards = np.where(np.isnan(backwards), forwards, backwards)  # after the last one
    by_forwards = int((forwards != x).sum())
    by_backwards = int((backwards != x).sum())
    if by_forwards <= by_backwards:
        return forwards, by_forwards
    return backwards, by_backwards
