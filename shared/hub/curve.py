"""The picture of a training: every step is in it, however many there are.

Each column of pixels is filled from the least to the greatest loss of its steps, so that one bad
step in a million is a line. Where losses differ by much the axis is logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.hub.png import GLYPH_HEIGHT, Pixels, draw_number, encode_png, number_width
from shared.hub.source import Curve
from shared.run.metrics_rows import Floats, Series
from shared.text import format_count

WIDTH, HEIGHT = 1000, 480
_FINE = 2  # dots per pixel and side, averaged in the end: smooth edges
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 24, 20, 44  # margins, in pixels
_THIN, _THICK = 1.2, 2.4  # pixels of a curve, and of the validation curve
_LOG_FROM = 20.0  # the ratio of losses above which the axis is logarithmic
_PAPER, _GRID, _INK = (255, 255, 255), (226, 226, 226), (70, 70, 70)
#: Told apart by colour-blind eyes (Okabe and Ito), as in `shared.charts.svg`; red marks
#: non-finite values.
_COLORS = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (122, 81, 149),
    (68, 68, 68),
)  # fmt: skip
_BAD = (213, 94, 0)
_LARGEST, _SMALLEST = 1e150, 1e-280  # what is computed with without an overflow
_SCALE = 2 * _FINE


@dataclass(frozen=True)
class _Axes:
    """Where a step and a loss lie among the fine dots."""

    steps: tuple[float, float]
    losses: tuple[float, float]
    logarithmic: bool

    @property
    def columns(self) -> tuple[int, int]:
        return _LEFT * _FINE, (WIDTH - _RIGHT) * _FINE

    @property
    def rows(self) -> tuple[int, int]:
        return _TOP * _FINE, (HEIGHT - _BOTTOM) * _FINE

    def x(self, steps: Floats) -> Floats:
        (low, high), (left, right) = self.steps, self.columns
        return left + (steps - low) / max(high - low, 1e-12) * (right - 1 - left)

    def y(self, losses: Floats) -> Floats:
        low, high = self.losses
        if self.logarithmic:
            losses = np.log10(np.maximum(losses, low))
            low, high = math.log10(low), math.log10(high)
        top, bottom = self.rows
        return bottom - 1 - (losses - low) / max(high - low, 1e-12) * (bottom - 1 - top)


def draw_curve(curve: Curve) -> bytes:
    """The losses as a PNG: training in blue, validation in orange, red where it is no number."""
    return _drawn([(curve.loss, _THIN), (curve.val_loss, _THICK)])


def draw_overlay(all_series: Sequence[Series]) -> bytes:
    """Any number of curves as a PNG, equally thick. One finite value at least must be there."""
    return _drawn([(series, _THIN) for series in all_series])


def _drawn(curves: Sequence[tuple[Series, float]]) -> bytes:
    """Each series with its thickness in pixels, the later ones over the others."""
    axes = _axes([series for series, _ in curves])
    fine = np.full((HEIGHT * _FINE, WIDTH * _FINE, 3), _PAPER, np.uint8)
    _draw_grid(fine, axes)
    for i, (series, thick) in enumerate(curves):
        _fill(fine, axes, *_envelope(series, axes), _COLORS[i % len(_COLORS)], thick=thick)
    for series, _ in curves:
        _mark_bad(fine, axes, series)
    shape = (HEIGHT, _FINE, WIDTH, _FINE, 3)
    return encode_png(fine.reshape(shape).mean(axis=(1, 3)).round().astype(np.uint8))


def _finite(series: Series) -> tuple[Floats, Floats]:
    keep = np.isfinite(series.values)
    values = np.clip(series.values[keep], -_LARGEST, _LARGEST)
    return series.steps[keep].astype(np.float64), values


def _axes(all_series: Sequence[Series]) -> _Axes:
    values = np.concatenate([_finite(series)[1] for series in all_series])
    steps = np.concatenate([series.steps.astype(np.float64) for series in all_series])
    low, high = float(values.min()), float(values.max())
    logarithmic = low > _SMALLEST and high / low > _LOG_FROM
    if logarithmic:
        low, high = low / 1.1, high * 1.1
    else:
        room = 0.05 * (high - low) or 0.5
        low, high = low - room, high + room
    return _Axes((float(steps.min()), float(steps.max())), (low, high), logarithmic)


def _envelope(series: Series, axes: _Axes) -> tuple[Floats, Floats]:
    """For each fine column the highest and the lowest row; NaN where there is nothing."""
    steps, values = _finite(series)
    width = WIDTH * _FINE
    top, bottom = np.full(width, np.nan), np.full(width, np.nan)
    if not len(steps):
        return top, bottom
    columns = axes.x(steps).astype(np.int64)
    rows = axes.y(values)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    top[columns[starts]] = np.minimum.reduceat(rows, starts)
    bottom[columns[starts]] = np.maximum.reduceat(rows, starts)
    # From the last step of a column the curve goes straight on to the first one of the next, and
    # each column reaches to where that line enters the one behind it: nothing is torn.
    known = columns[starts]
    ends = np.append(starts[1:], len(rows)) - 1
    between = np.arange(known[0], known[-1] + 1)
    line = np.interp(between, np.repeat(known, 2), np.column_stack((rows[starts], rows[ends])).flat)
    following = np.append(line[1:], line[-1])
    top[between] = np.fmin(top[between], np.minimum(line, following))
    bottom[between] = np.fmax(bottom[between], np.maximum(line, following))
    return top, bottom


def _fill(
    fine: Pixels,
    axes: _Axes,
    top: Floats,
    bottom: Floats,
    color: tuple[int, int, int],
    *,
    thick: float,
) -> None:
    first, last = axes.rows
    half = thick * _FINE / 2
    reach = max(2, round(half))
    for column in np.flatnonzero(np.isfinite(top)):
        upper = max(first, round(top[column] - half))
        lower = min(last, round(bottom[column] + half) + 1)
        left = max(axes.columns[0], int(column) - reach // 2)
        fine[upper:lower, left : left + reach] = color


def _mark_bad(fine: Pixels, axes: _Axes, series: Series) -> None:
    """A red tooth at the foot for every step whose loss is no number."""
    bad = series.steps[~np.isfinite(series.values)].astype(np.float64)
    foot = axes.rows[1]
    for column in np.unique(axes.x(bad).astype(np.int64)):
        fine[foot - 12 * _FINE : foot, column : column + 2 * _FINE] = _BAD


def _draw_grid(fine: Pixels, axes: _Axes) -> None:
    (left, right), (top, bottom) = axes.columns, axes.rows
    for value in _loss_ticks(axes):
        row = round(float(axes.y(np.array([value]))[0]))
        fine[row : row + _FINE // 2 + 1, left:right] = _GRID
        text = f"{value:.4g}"
        x = left - 10 * _FINE - number_width(text, _SCALE)
        draw_number(fine, text, x, row - GLYPH_HEIGHT * _SCALE // 2, color=_INK, scale=_SCALE)
    for value in _ticks(*axes.steps, 8):
        column = round(float(axes.x(np.array([value]))[0]))
        fine[top:bottom, column : column + _FINE // 2 + 1] = _GRID
        text = format_count(value)
        x = min(column - number_width(text, _SCALE) // 2, right - number_width(text, _SCALE))
        draw_number(fine, text, x, bottom + 10 * _FINE, color=_INK, scale=_SCALE)
    fine[bottom : bottom + _FINE, left:right] = _INK
    fine[top : bottom + _FINE, left - _FINE : left] = _INK


def _loss_ticks(axes: _Axes) -> list[float]:
    low, high = axes.losses
    if not axes.logarithmic:
        return _ticks(low, high, 6)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    many = len(powers) > 4
    found = [m * 10.0**p for p in powers for m in ((1,) if many else (1, 2, 5))]
    found = [value for value in found if low <= value <= high]
    return found[:: 1 + len(found) // 9]


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers between two others."""
    span = high - low
    if span <= max(_SMALLEST, 1e-12 * abs(high)):
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]
