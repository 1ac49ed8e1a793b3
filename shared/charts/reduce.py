"""A series reduced to the columns of a chart: the extremes of each, so no bad step is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.run.metrics_rows import Floats, Ints, Series

#: Values are clipped to ±HUGE: beyond it the difference of two values overflows.
HUGE = 8e307

NAN, POSITIVE, NEGATIVE = 1, 2, 4


@dataclass(frozen=True)
class Envelope:
    """The values of steps [first, last] in C columns.

    `low` and `high`, shape (C,), are the least and the greatest finite value of each column, NaN
    where it has none. `marks`, shape (C,), says with NAN | POSITIVE | NEGATIVE which columns hold
    non-finite values, `nonfinite` counts those values.
    """

    low: Floats
    high: Floats
    marks: NDArray[np.uint8]
    nonfinite: int

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw or mark."""
        return not (np.isfinite(self.low).any() or self.marks.any())


def empty_envelope(columns: int) -> Envelope:
    """The envelope of an empty series."""
    nothing = np.full(columns, np.nan)
    return Envelope(nothing, nothing, np.zeros(columns, np.uint8), 0)


def step_edges(first: int, last: int, columns: int) -> Ints:
    """The first step of each of `columns` equal parts of [first, last], and the end of the last.

    Shape (columns + 1,). Integer arithmetic: a rounded edge would put a step into the wrong column.
    """
    width, rest = divmod(last - first + 1, columns)
    index = np.arange(columns + 1, dtype=np.int64)
    return first + index * width - (-index * rest) // columns


def reduce(series: Series, columns: int, first: int, last: int) -> Envelope:
    """The extremes of `series` over steps [first, last] in `columns` equal parts, in O(N)."""
    if columns < 1 or not len(series) or last < first:
        return empty_envelope(max(columns, 0))
    edges = step_edges(first, last, columns)
    return reduce_between(series.values, np.searchsorted(series.steps, edges))


def reduce_between(values: Floats, bounds: NDArray[np.intp]) -> Envelope:
    """The extremes of `values[bounds[i]:bounds[i + 1]]` for every column i, in O(N).

    `bounds`, shape (columns + 1,), does not decrease and lies within [0, len(values)].
    """
    starts, ends = bounds[:-1], bounds[1:]
    filled = starts < ends
    columns = len(starts)
    marks = np.zeros(columns, np.uint8)
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    if not filled.any():
        return Envelope(low, high, marks, 0)
    begin, end = int(bounds[0]), int(bounds[-1])
    values = values[begin:end]
    at = starts[filled] - begin
    nonfinite = 0
    with np.errstate(all="ignore"):
        # A finite sum proves that every value is finite; then there is no second pass.
        if not math.isfinite(float(values.sum())):
            finite = np.isfinite(values)
            nonfinite = len(values) - int(finite.sum())
            if nonfinite:
                marks[filled] = np.bitwise_or.reduceat(flags_of(values), at)
                values = np.where(finite, values, np.nan)
        low[filled] = np.fmin.reduceat(values, at)
        high[filled] = np.fmax.reduceat(values, at)
    return Envelope(np.clip(low, -HUGE, HUGE), np.clip(high, -HUGE, HUGE), marks, nonfinite)


def flags_of(values: Floats) -> NDArray[np.uint8]:
    """NAN, POSITIVE, NEGATIVE or 0 for each value."""
    flags = np.zeros(len(values), np.uint8)
    flags[np.isnan(values)] = NAN
    flags[values == np.inf] = POSITIVE
    flags[values == -np.inf] = NEGATIVE
    return flags
