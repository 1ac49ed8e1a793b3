"""Series as an SVG: every step is in it, however many there are.

Each column of the picture holds the first, the least, the greatest and the last value of its steps,
so that one bad step in a million is a line. Values that are no numbers are red marks at the foot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape

import numpy as np

from shared.run.metrics_rows import Floats, Ints, Series
from shared.text import format_count, format_duration, one_line

Axis = Literal["step", "time", "tokens"]

WIDTH, HEIGHT = 1000, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 56, 40  # margins, in pixels
_LOG_FROM = 20.0  # the ratio of values above which the axis is logarithmic
_LARGEST = 1e300  # beyond it the difference of two values overflows
#: Told apart by colour-blind eyes (Okabe and Ito); the red is for what is no number.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#7a5195", "#444444")
_BAD, _GRID, _INK, _MUTED = "#d55e00", "#e2e2e2", "#333333", "#777777"
#: Phases: the known ones have their own colour, others take turns.
_PHASES = {"warmup": "#e69f00", "full": "#0072b2", "predict": "#009e73", "correct": "#cc79a7"}
_TICKS = 8  # on the axis of places, about
#: Steps between ticks that are round in hours and days, in seconds.
_TIMES = (1, 5, 15, 30, 60, 300, 900, 1800, 3600, 7200, 21600, 43200, 86400, 7 * 86400)
_RAW = 0.35  # the strength of a curve that is smoothed
_FONT = "font-family='DejaVu Sans, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Line:
    """One curve and its name in the legend.

    `x` are the places of its values where these are not the steps, `smooth` an average to draw over
    them; both of shape (N,).
    """

    label: str
    series: Series
    x: Floats | Ints | None = None
    smooth: Floats | None = None

    @property
    def places(self) -> Floats | Ints:
        """Where its values are."""
        return self.series.steps if self.x is None else self.x

    def between(self, window: tuple[float, float] | None) -> Line:
        """The part with first <= x <= last."""
        if window is None:
            return self
        first = np.searchsorted(self.places, window[0], "left")
        last = np.searchsorted(self.places, window[1], "right")
        series, smooth = self.series, self.smooth
        return Line(
            self.label,
            Series(series.key, series.steps[first:last], series.values[first:last]),
            None if self.x is None else self.x[first:last],
            None if smooth is None else smooth[first:last],
        )


@dataclass(frozen=True)
class Band:
    """The phase `name` from `x` on."""

    x: float
    name: str


@dataclass(frozen=True)
class Mark:
    """Something that happened at `x`: a sign on the axis, and what it was."""

    x: float
    sign: str
    text: str


@dataclass(frozen=True)
class _Axes:
    window: tuple[float, float]
    values: tuple[float, float]
    logarithmic: bool
    log_x: bool

    def x(self, places: Floats | Ints) -> Floats:
        first, last = self.window
        at = np.asarray(places, np.float64)
        if self.log_x:
            at, first, last = np.log10(np.maximum(at, first)), math.log10(first), math.log10(last)
        share = (at - first) / ((last - first) or 1.0)
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
    window: tuple[float, float] | None = None,
    logarithmic: bool | None = None,
    log_x: bool = False,
    axis: Axis = "step",
    bands: Sequence[Band] = (),
    marks: Sequence[Mark] = (),
) -> str:
    """The curves over the places [first, last], all there are by default, as the text of an SVG.

    A logarithmic axis of values is chosen where they differ by much, unless it is said; it needs
    values above zero. `axis` says what the places are: steps, seconds, tokens.
    """
    shown = [line.between(window) for line in lines]
    axes = _axes(shown, window, logarithmic, log_x=log_x)
    size = f"width='{WIDTH}' height='{HEIGHT}'"
    space = "xmlns='http://www.w3.org/2000/svg'"
    parts = [
        f"<svg {space} viewBox='0 0 {WIDTH} {HEIGHT}' {size} {_FONT} font-size='13'>",
        f"<rect {size} fill='white'/>",
        _text(_LEFT, 24, one_line(title, 100), _INK, "font-size='16' font-weight='bold'"),
        *_legend(shown),
        *(_bands(bands, axes) if axes else []),
        *(_frame(axes, axis) if axes else [_text(WIDTH // 2, HEIGHT // 2, "no values", _MUTED)]),
    ]
    if axes:
        for index, line in enumerate(shown):
            parts += _curve(line, axes, COLORS[index % len(COLORS)])
        parts += _marks(marks, axes)
    return "\n".join([*parts, "</svg>\n"])


def _drawable(values: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    with np.errstate(invalid="ignore"):
        return np.abs(values) < _LARGEST


def _axes(
    lines: Sequence[Line],
    window: tuple[float, float] | None,
    logarithmic: bool | None,
    *,
    log_x: bool,
) -> _Axes | None:
    filled = [line for line in lines if len(line.series)]
    if not filled:
        return None
    every = [line.series.values for line in filled]
    values = np.concatenate([v[_drawable(v)] for v in every] or [np.empty(0)])
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
    reach = (
        min(float(line.places[0]) for line in filled),
        max(float(line.places[-1]) for line in filled),
    )
    first, last = window or reach
    if log_x:  # zero has no place on it
        above = [line.places[line.places > 0] for line in filled]
        first = max(first, min((float(x[0]) for x in above if len(x)), default=0.0))
        log_x = 0 < first < last
    return _Axes((first, last), (low, high), log, log_x)


def _bands(bands: Sequence[Band], axes: _Axes) -> list[str]:
    """A tint behind the curve for each phase, and its name where there is room."""
    first, last = axes.window
    starts = sorted(bands, key=lambda band: band.x)
    inks: dict[str, str] = {}
    for band in starts:
        inks.setdefault(band.name, _PHASES.get(band.name, COLORS[(3 + len(inks)) % len(COLORS)]))
    parts: list[str] = []
    ends = [*(band.x for band in starts[1:]), last]
    for band, end in zip(starts, ends[: len(starts)], strict=True):
        if end <= first or band.x > last:
            continue
        left, right = axes.x(np.array([max(band.x, first), min(end, last)])).tolist()
        color, height = inks[band.name], HEIGHT - _TOP - _BOTTOM
        parts.append(
            f"<rect x='{left:.1f}' y='{_TOP}' width='{right - left:.1f}' height='{height}' "
            f"fill='{color}' fill-opacity='0.09'/>"
        )
        name = one_line(band.name, 30)
        if right - left > 8 * len(name) + 12:
            parts.append(_text(left + 6, _TOP + 14, name, color, "font-size='11'"))
    return parts


def _marks(marks: Sequence[Mark], axes: _Axes) -> list[str]:
    """Signs on the axis; what each means is told where the pointer rests on it."""
    parts: list[str] = []
    for mark in marks:
        if axes.window[0] <= mark.x <= axes.window[1]:
            x = float(axes.x(np.array([mark.x]))[0])
            told = f"<title>{escape(_legal(one_line(mark.text, 200)))}</title>"
            sign = escape(_legal(one_line(mark.sign, 2)))
            parts.append(
                f"<text x='{x:.1f}' y='{HEIGHT - _BOTTOM - 3}' fill='{_INK}' font-size='11' "
                f"text-anchor='middle'>{told}{sign}</text>"
            )
    return parts


def _curve(line: Line, axes: _Axes, color: str) -> list[str]:
    """Every value; where there is an average, faintly under it."""
    if line.smooth is None:
        return _path(line.places, line.series.values, axes, color)
    raw = _path(line.places, line.series.values, axes, color, f"stroke-opacity='{_RAW}'")
    return [*raw, *_path(line.places, line.smooth, axes, color)[:1]]


def _path(
    places: Floats | Ints, all_values: Floats, axes: _Axes, color: str, more: str = ""
) -> list[str]:
    if not len(places):
        return []
    columns = axes.x(places).astype(np.int64)
    starts = np.flatnonzero(np.diff(columns, prepend=columns[0] - 1))
    ends = np.append(starts[1:], len(columns))
    good = _drawable(all_values)
    pieces: list[str] = []
    marks: list[str] = []
    torn = True  # what lies between two points was no number: no line joins them
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        kept = np.flatnonzero(good[start:end]) + start
        if len(kept) < end - start:
            x = float(axes.x(places[start : start + 1])[0])
            marks.append(f"M{x:.1f} {HEIGHT - _BOTTOM}v-10")
        if not len(kept):
            torn = True
            continue
        values = all_values[kept]
        extremes = {0, int(values.argmin()), int(values.argmax()), len(kept) - 1}
        chosen = kept[sorted(extremes)]
        xs, ys = axes.x(places[chosen]), axes.y(all_values[chosen])
        points = [f"{x:.1f} {y:.1f}" for x, y in zip(xs.tolist(), ys.tolist(), strict=True)]
        # A length of zero makes a dot of a point that nothing joins.
        pieces.append(f"M{points[0]}h0" if torn else f"L{points[0]}")
        pieces += [f"L{point}" for point in points[1:]]
        torn = False
    line = f"fill='none' stroke-linejoin='round' stroke-linecap='round' {more}".rstrip()
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


def _frame(axes: _Axes, axis: Axis) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts: list[str] = []
    for value in _value_ticks(axes):
        y = float(axes.y(np.array([value]))[0])
        parts.append(f"<path stroke='{_GRID}' d='M{_LEFT} {y:.1f}H{right}'/>")
        parts.append(_text(_LEFT - 8, y + 4, f"{value:.4g}", _MUTED, "text-anchor='end'"))
    for value in _place_ticks(axes, axis):
        x = float(axes.x(np.array([value]))[0])
        parts.append(f"<path stroke='{_GRID}' d='M{x:.1f} {_TOP}V{bottom}'/>")
        anchor = "text-anchor='middle'" if x < right - 20 else "text-anchor='end'"
        told = format_duration(value) if axis == "time" else format_count(value)
        parts.append(_text(x, bottom + 18, told, _MUTED, anchor))
    parts.append(_text((_LEFT + right) / 2, HEIGHT - 6, axis, _MUTED, "text-anchor='middle'"))
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


def _place_ticks(axes: _Axes, axis: Axis) -> list[float]:
    low, high = axes.window
    if axes.log_x:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [10.0**p for p in powers if low <= 10.0**p <= high][: 2 * _TICKS]
    if axis != "time":
        return _ticks(low, high, _TICKS)
    step = next((s for s in _TIMES if (high - low) / s <= _TICKS), _TIMES[-1])
    step *= max(1, math.ceil((high - low) / step / _TICKS))
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`."""
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 0.0
    if not power:
        return [low]
    step = next((m * power for m in (1, 2, 5) if m * power >= raw), 10 * power)
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
