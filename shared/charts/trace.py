"""One curve as the lines that a picture draws: the extremes of each column of pixels, joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.charts.figure import Curve
from shared.charts.reduce import HUGE, Envelope
from shared.charts.smoothing import line_between
from shared.charts.spikes import spikes
from shared.charts.window import Window
from shared.run.metrics_rows import Floats

#: Points of (share of the x axis, value).
Piece = Sequence[tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Trace:
    """What is drawn of one curve. Every x is a share of the axis, from 0 to 1.

    `raw` and `smooth` are polylines, torn where all values of a column are non-finite. `spikes`
    are the parts of the raw line beyond the usual values, `nonfinite` the places of the columns
    with such values.
    """

    envelope: Envelope
    raw: Sequence[Piece]
    smooth: Sequence[Piece]
    spikes: Sequence[Piece]
    nonfinite: Floats

    def __len__(self) -> int:
        """The columns that show something."""
        return len(self.raw) + len(self.nonfinite)


def trace(curve: Curve, window: Window, columns: int) -> Trace:
    """What `columns` columns of pixels show of `curve` in `window`. O(columns) beside `between`."""
    bounds = curve.find(window.edges(columns))
    envelope = curve.points.between(bounds)
    starts, ends = bounds[:-1], bounds[1:]
    filled = np.flatnonzero(starts < ends)
    first, last = starts[filled], ends[filled] - 1
    x_first, x_last = window.positions(curve.places[first]), window.positions(curve.places[last])
    middle = (x_first + x_last) / 2
    known = np.isfinite(envelope.low[filled])
    values = np.clip(curve.points.series.values, -HUGE, HUGE) if len(first) else np.empty(0)
    begin, end = values[first], values[last]
    for ends_of, raw in ((begin, first), (end, last)):
        ends_of[~np.isfinite(curve.points.series.values[raw])] = np.nan
    low, high = envelope.low[filled], envelope.high[filled]
    with np.errstate(invalid="ignore"):
        rises = ~(np.abs(begin - high) < np.abs(begin - low))
    xs = np.column_stack((x_first, middle, middle, x_last))
    ys = np.column_stack((begin, np.where(rises, low, high), np.where(rises, high, low), end))
    smooth: list[Piece] = []
    if curve.smooth is not None:
        line = np.where(known, line_between(curve.smooth, bounds)[filled], np.nan)
        smooth = _joined(x_last[:, None], line[:, None], known)
    return Trace(
        envelope,
        _joined(xs, ys, known),
        smooth,
        _spike_lines(envelope, filled, middle),
        middle[envelope.marks[filled] > 0],
    )


def _joined(xs: Floats, ys: Floats, known: NDArray[np.bool_]) -> list[Piece]:
    """The points of the columns as polylines: a column without a finite value ends one.

    `xs` and `ys`, shape (C, points), of the columns that hold values; NaN points are left out.
    """
    group = np.repeat(np.cumsum(~known), xs.shape[1])
    flat_x, flat_y = xs.ravel(), ys.ravel()
    kept = np.isfinite(flat_y) & np.isfinite(flat_x)
    flat_x, flat_y, group = flat_x[kept], flat_y[kept], group[kept]
    if not len(group):
        return []
    cuts = np.flatnonzero(np.diff(group)) + 1
    return [
        list(zip(x.tolist(), y.tolist(), strict=True))
        for x, y in zip(np.split(flat_x, cuts), np.split(flat_y, cuts), strict=True)
    ]


def _spike_lines(envelope: Envelope, filled: NDArray[np.intp], x: Floats) -> list[Piece]:
    found, usual_low, usual_high = spikes(envelope)
    lines: list[Piece] = []
    for column in np.flatnonzero(found).tolist():
        at = float(x[np.searchsorted(filled, column)])
        low, high = float(envelope.low[column]), float(envelope.high[column])
        if high > usual_high[column]:
            lines.append([(at, max(low, float(usual_high[column]))), (at, high)])
        if low < usual_low[column]:
            lines.append([(at, min(high, float(usual_low[column]))), (at, low)])
    return lines
