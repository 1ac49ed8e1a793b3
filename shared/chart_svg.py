"""Series as an SVG: every step is in it, however many there are.

Each column of the picture holds the first, the least, the greatest and the last value of its steps,
so that one bad step in a million is a line. Values that are no numbers are red marks at the foot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np

from shared.metrics_log import Floats, Ints, Series
from shared.text import format_count, one_line

WIDTH, HEIGHT = 1000, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 56, 40  # margins, in pixels
_LOG_FROM = 20.0  # the ratio of values above which the axis is logarithmic
_LARGEST = 1e300  # beyond it the difference of two values overflows
#: Told apart by colour-blind eyes (Okabe and Ito); the red is for what is no number.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7a5195", "#444444")
_BAD, _GRID, _INK, _MUTED = "#d55e00", "#e2e2e2", "#333333", "#777777"
_FONT = "font-family='DejaVu Sans, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Line:
    """One curve and its name in the legend."""

    label: str
    series: Series


@dataclass(frozen=True)
class _Axes:
    steps: tuple[int, int]
    values: tuple[float, float]
    logarithmic: bool

    def x(self, steps: Floats | Ints) -> Floats:
        first, last = self.steps
        share = (np.asarray(steps, np.float64) - first) / max(last - first, 1)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, values: Floats) -> Floats:
        low, high = self.values
        if self.logarithmic:
            values, low, high = np.log10(np.maximum(values, low)), math.log10(low), math.log10(high)
        with np.errstate(all="ignore"):  # values at the edge of what a float holds
            share = (values - low) / (high - low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def draw_svg(
    lines: Sequence[Line],
    title: str = "",
    *,
    steps: tuple[int, int] | None = None,
    logarithmic: bool | None = None,
) -> str:
    """The curves over the steps [first, last], all there are by default, as the text of an SVG.

    A logarithmic axis is chosen where values differ by much, unless it is said; it needs values
    above zero.
    """
    shown = [Line(line.label, _between(line.series, steps)) for line in lines]
    axes = _axes([line.series for line in shown], steps, logarithmic)
    size = f"width='{WIDTH}' height='{HEIGHT}'"
    space = "xmlns='http://www.w3.org/2000/svg'"
    parts = [
        f"<svg {space} viewBox='0 0 {WIDTH} {HEIGHT}' {size} {_FONT} font-size='13'>",
        f"<rect {size} fill='white'/>",
        _text(_LEFT, 24, one_line(title, 100), _INK, "font-size='16' font-weight='bold'"),
        *_legend(shown),
        *(_frame(axes) if axes else [_text(WIDTH // 2, HEIGHT // 2, "no values", _MUTED)]),
    ]
    if axes:
        for index, line in enumerate(shown):
            parts += _curve(line.series, axes, COLORS[index % len(COLORS)])
    return "\n".join([*parts, "</svg>\n"])


def _between(series: Series, steps: tuple[int, int] | None) -> Series:
    if steps is None:
        return series
    first, last = np.searchsorted(series.steps, (steps[0], steps[1] + 1))
    return Series(series.key, series.steps[first:last], series.values[first:last])


def _drawable(series: Series) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    with np.errstate(invalid="ignore"):
        return np.abs(series.values) < _LARGEST


def _axes(
    all_series: Sequence[Series], steps: tuple[int, int] | None, logarithmic: bool | None
) -> _Axes | None:
    filled = [s for s in all_series if len(s)]
    if not filled:
        return None
    values = np.concatenate([s.values[_drawable(s)] for s in filled] or [np.empty(0)])
    if not len(values):
        values = np.array([0.0, 1.0])  # nothing but marks
    low, high = float(values.min()), float(values.max())
    differ = low > 0 and high / low > _LOG_FROM
    log = low > 0 and (differ if logarithmic is None else logarithmic)
    if log:
        low, high = low / 1.1, high * 1.1
    else:
        room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
        low, high = low - room, high + room
    reach = (min(int(s.steps[0]) for s in filled), max(int(s.steps[-1]) for s in filled))
    return _Axes(steps or reach, (low, high), log)


def _curve(series: Series, axes: _Axes, color: str) -> list[str]:
    if not len(series):
        return []
    columns = axes.x(series.steps).astype(np.int64)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    ends = np.append(starts[1:], len(columns))
    good = _drawable(series)
    pieces: list[str] = []
    marks: list[str] = []
    torn = True  # what lies between two points was no number: no line joins them
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        kept = np.flatnonzero(good[start:end]) + start
        if len(kept) < end - start:
            x = float(axes.x(series.steps[start : start + 1])[0])
            marks.append(f"M{x:.1f} {HEIGHT - _BOTTOM}v-10")
        if not len(kept):
            torn = True
            continue
        values = series.values[kept]
        extremes = {0, int(values.argmin()), int(values.argmax()), len(kept) - 1}
        places = kept[sorted(extremes)]
        xs, ys = axes.x(series.steps[places]), axes.y(series.values[places])
        points = [f"{x:.1f} {y:.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        # A length of zero makes a dot of a point that nothing joins.
        pieces.append(f"M{points[0]}h0" if torn else f"L{points[0]}")
        pieces += [f"L{point}" for point in points[1:]]
        torn = False
    line = "fill='none' stroke-linejoin='round' stroke-linecap='round'"
    drawn = [f"<path {line} stroke='{color}' stroke-width='1.6' d='{''.join(pieces)}'/>"]
    if marks:
        drawn.append(f"<path fill='none' stroke='{_BAD}' stroke-width='2' d='{''.join(marks)}'/>")
    return drawn


def _legend(lines: Sequence[Line]) -> list[str]:
    parts: list[str] = []
    x = _LEFT
    for index, line in enumerate(lines):
        if len(line.series):
            label = one_line(line.label, 40)
            color = COLORS[index % len(COLORS)]
            parts.append(f"<rect x='{x}' y='37' width='16' height='4' fill='{color}'/>")
            parts.append(_text(x + 22, 44, label, _INK))
            x += 40 + 8 * len(label)
    bad = sum(len(line.series) - int(np.isfinite(line.series.values).sum()) for line in lines)
    if bad:
        told = f"{bad:,} values are no numbers" if bad != 1 else "1 value is no number"
        parts.append(_text(WIDTH - _RIGHT, 44, told, _BAD, "text-anchor='end'"))
    return parts


def _frame(axes: _Axes) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts: list[str] = []
    for value in _value_ticks(axes):
        y = float(axes.y(np.array([value]))[0])
        parts.append(f"<path stroke='{_GRID}' d='M{_LEFT} {y:.1f}H{right}'/>")
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.4g}", _MUTED, "text-anchor='end'"))
    for value in _ticks(float(axes.steps[0]), float(axes.steps[1]), 8):
        x = float(axes.x(np.array([value]))[0])
        parts.append(f"<path stroke='{_GRID}' d='M{x:.1f} {_TOP}V{bottom}'/>")
        anchor = "text-anchor='middle'" if x < right - 20 else "text-anchor='end'"
        parts.append(_text(x, bottom + 18, format_count(value), _MUTED, anchor))
    parts.append(_text((_LEFT + right) / 2, HEIGHT - 6, "step", _MUTED, "text-anchor='middle'"))
    parts.append(f"<path fill='none' stroke='{_INK}' d='M{_LEFT} {_TOP}V{bottom}H{right}'/>")
    return parts


def _text(x: float, y: float, text: str, color: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' fill='{color}' {more}>{escape(_legal(text))}</text>"


def _legal(text: str) -> str:
    """Without the few characters that XML has no way to write."""
    return text.replace("\ufffe", "").replace("\uffff", "")


def _value_ticks(axes: _Axes) -> list[float]:
    low, high = axes.values
    if not axes.logarithmic:
        return _ticks(low, high, 6)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if len(powers) > 4 else (1, 2, 5)
    found = [m * 10.0**p for p in powers for m in factors if low <= m * 10.0**p <= high]
    return found[:: 1 + len(found) // 9]


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 0.0
    if not power:
        return [low]
    step = next((m * power for m in (1, 2, 5) if m * power >= raw), 10 * power)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
