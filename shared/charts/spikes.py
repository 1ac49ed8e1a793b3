"""Finds spikes: the columns of an envelope that stand out from their neighbours."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shared.charts.reduce import Envelope
from shared.run.metrics_rows import Floats

_SIDE = 7  # a column is compared with so many on either side
#: How far out a spike must be: in typical deviations of the extremes, in heights of a typical
#: column, and as a share of the visible range.
_DEVIATIONS, _HEIGHTS, _SEEN = 9.0, 0.75, 0.04
#: If more than this share of the columns stand out, the curve is noisy and has no spikes.
_COMMON = 0.05


def spikes(envelope: Envelope) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """The columns with a spike, and the typical least and greatest values around each: shape (C,).

    A spike rises or falls far beyond the typical values on *both* sides, so a falling curve has
    none. The first columns have only one side and no spikes. In a curve with gaps, such as a
    validation loss, the neighbours are the measured columns before and after.
    """
    found = np.zeros(len(envelope.low), np.bool_)
    usual_low, usual_high = np.full(len(found), np.nan), np.full(len(found), np.nan)
    filled = np.flatnonzero(np.isfinite(envelope.low))
    if len(filled) < 2 * _SIDE:
        return found, usual_low, usual_high
    low, high = envelope.low[filled], envelope.high[filled]
    with np.errstate(all="ignore"):
        up, tops = _stands_out(high, high, low)
        down, bottoms = _stands_out(-low, -low, -high)
    few = len(filled) // 50  # the visible range ignores a few outliers
    seen = float(np.sort(high)[-1 - few] - np.sort(low)[few])
    up &= high - tops > _SEEN * seen
    down &= -low - bottoms > _SEEN * seen
    out = up | down
    if out.sum() > max(1.0, _COMMON * len(out)):
        return found, usual_low, usual_high
    found[filled] = out
    usual_low[filled], usual_high[filled] = -bottoms, tops
    return found, usual_low, usual_high


def _stands_out(values: Floats, tops: Floats, floors: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Where `values` lie far above the typical height on either side, and that height."""
    before, after = _sides(tops)
    left, right = _median(before), _median(after)
    usual = np.fmax(left, right)
    deviation = np.fmax(
        _median(np.abs(before - left[:, None])), _median(np.abs(after - right[:, None]))
    )
    # Seven neighbours may be close together by chance: use at least the curve's own deviation.
    deviation = np.fmax(deviation, np.median(deviation[np.isfinite(deviation)]))
    heights = np.median(tops - floors)
    beyond = values - usual
    out = (beyond > _DEVIATIONS * deviation) & (beyond > _HEIGHTS * heights)
    out &= beyond > 1e-9 * np.abs(usual)
    out[:2] = False
    return out, usual


def _sides(values: Floats) -> tuple[Floats, Floats]:
    """The `_SIDE` values before each and those after it, NaN where there are none: (C, _SIDE)."""
    nothing = np.full(_SIDE, np.nan)
    windows = sliding_window_view(np.concatenate((nothing, values, nothing)), _SIDE)
    return windows[: len(values)], windows[_SIDE + 1 : _SIDE + 1 + len(values)]


def _median(rows: Floats) -> Floats:
    """The lower median of the finite values of each row; NaN where there are none."""
    ordered = np.sort(rows, axis=1)  # NaN comes last
    middle = np.maximum(0, (rows.shape[1] - np.isnan(rows).sum(axis=1) - 1) // 2)
    found: Floats = ordered[np.arange(len(rows)), middle]
    return found
