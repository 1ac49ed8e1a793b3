"""A figure as a drawing: title, legend, axes, phases, curves and marks, each at its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.charts.colours import colour_of
from shared.charts.drawing import (
    Box,
    Drawing,
    Item,
    Lines,
    Point,
    Shape,
    Text,
    fit_text,
    sign,
    text_width,
)
from shared.charts.figure import Curve, Figure, is_readable
from shared.charts.labels import number
from shared.charts.phases import Band
from shared.charts.scale import ValueScale
from shared.charts.trace import Trace, trace
from shared.run.metrics_rows import Floats
from shared.text import one_line

WIDTH, HEIGHT = 1000, 480

_MARGIN, _RIGHT = 20, 28
_TITLE, _TEXT, _SMALL = 17, 13, 12  # font sizes
_LEGEND_TOP, _ROW = 52, 20  # the baseline of the first row of the legend, and pixels per row
_TICK_ROOM, _NAME_ROOM = 25, 19  # below the plot: for the labels of the x axis, and for its name
_GAP = 18  # between two entries of a legend
_SWATCH = 18  # the line beside a name
_LEAST_GUTTER, _MOST_GUTTER = 56, 190
_LABEL, _PHASE = 430, 200  # pixels of a curve's name and of a phase's name at most
_VALUES_APART = 15  # pixels between two labels of the value axis, at least
_PIXELS_PER_VALUE, _PIXELS_PER_CELL = 42, 9
_THIN, _THICK = 1.5, 2.2
_BEHIND = 0.3  # the strength of the values behind a moving average
_TINT = 0.09  # the strength of a phase's colour behind the curves
_TOOTH = 10  # the height of the mark of a non-finite value
_SIGN = 9
_NAMES_ROOM = 14  # above the plot, for the names of phases
#: Columns of the narrowest plot there can be: what has room in it has room in any.
_NARROWEST = WIDTH - _RIGHT - _MOST_GUTTER


@dataclass(frozen=True)
class _Area:
    """The rectangle in which the curves are, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def columns(self) -> int:
        """Columns of pixels."""
        return int(self.right - self.left)

    @property
    def height(self) -> float:
        return self.bottom - self.top

    def x(self, shares: Floats) -> Floats:
        """Where shares of the x axis are."""
        return self.left + shares * (self.right - self.left)

    def y(self, values: Floats, scale: ValueScale) -> Floats:
        """Where values are; those outside the scale are at its edge."""
        return self.bottom - np.clip(scale.place(values), 0.0, 1.0) * self.height


def draw_figure(figure: Figure) -> Drawing:
    """Lay `figure` out on a page of WIDTH by HEIGHT pixels."""
    legend, top = _legend(figure)
    if _stretches(figure, _NARROWEST):
        top += _NAMES_ROOM
    foot, foot_rows = _mark_legend(figure)
    bottom = HEIGHT - 10 - _ROW * foot_rows - _NAME_ROOM - _TICK_ROOM
    # The width of the labels depends on the scale, and that a little on the width of the columns.
    rough = _Area(_LEAST_GUTTER, top, WIDTH - _RIGHT, bottom)
    _, labels = _values(_scale(figure, _traces(figure, rough)), rough)
    widest = max((text_width(label, _SMALL) for label in labels), default=0.0)
    gutter = min(max(widest + 14 + _MARGIN, _LEAST_GUTTER), _MOST_GUTTER)
    area = _Area(round(gutter), top, WIDTH - _RIGHT, bottom)
    traces = _traces(figure, area)
    scale = _scale(figure, traces)
    items: list[Item] = [*_bands(figure, area), *_axes(figure, area, scale)]
    for curve, found in zip(figure.curves, traces, strict=True):
        items += _curve(curve, found, area, scale)
    for found in traces:
        items += _odd_values(found, area, scale)
    if not any(len(found) for found in traces):
        middle = (area.left + area.right) / 2, (area.top + area.bottom) / 2
        items.append(Text(*middle, "no values", colour_of("muted"), _TEXT, "middle"))
    items += _marks(figure, area)
    items += [*_heading(figure, traces, scale), *legend, *foot]
    return Drawing(WIDTH, HEIGHT, colour_of("background"), tuple(items))


def _traces(figure: Figure, area: _Area) -> list[Trace]:
    return [trace(curve, figure.window, area.columns) for curve in figure.curves]


def _scale(figure: Figure, traces: Sequence[Trace]) -> ValueScale:
    return figure.scale(found.envelope for found in traces)


# -- text above and below ------------------------------------------------------------------


def _heading(figure: Figure, traces: Sequence[Trace], scale: ValueScale) -> list[Item]:
    """The title, and on the right what is odd about the values."""
    items: list[Item] = []
    right: float = WIDTH - _RIGHT
    for text, ink, shown in reversed(_warnings(traces, scale)):
        right -= text_width(text, _SMALL)
        items.append(Text(right, 26, text, colour_of(ink), _SMALL))
        items.append(Shape(sign(shown, right - 10, 22, _SIGN), colour_of(ink)))
        right -= 16 + _GAP
    title = one_line(figure.title, 200)
    room = right - _MARGIN
    shown_title = fit_text(title, _TITLE, room, bold=True)
    ink = colour_of("foreground")
    return [Text(_MARGIN, 27, shown_title, ink, _TITLE, bold=True), *items]


def _warnings(traces: Sequence[Trace], scale: ValueScale) -> list[tuple[str, str, str]]:
    """What is odd: text, colour and sign of each."""
    found: list[tuple[str, str, str]] = []
    bad = sum(one.envelope.nonfinite for one in traces)
    if bad:
        found.append((f"{bad:,} NaN or inf", "nonfinite", "✕"))
    filled = [one.envelope for one in traces if np.isfinite(one.envelope.low).any()]
    if not filled:
        return found
    top = max(float(np.nanmax(envelope.high)) for envelope in filled)
    bottom = min(float(np.nanmin(envelope.low)) for envelope in filled)
    ends = scale.place(np.array([bottom, top]))
    if ends[1] > 1:
        found.append((f"up to {number(top, 3)}", "outside", "▲"))
    if ends[0] < 0:
        lost = "▽" if scale.log and bottom <= 0 else "▼"
        found.append((f"down to {number(bottom, 3)}", "outside", lost))
    return found


def _legend(figure: Figure) -> tuple[list[Item], float]:
    """The names of the curves in rows; and where the plot can begin."""
    entries = [
        (fit_text(one_line(curve.label, 200), _TEXT, _LABEL), colour_of(curve.ink))
        for curve in figure.curves
    ]
    items: list[Item] = []
    x, y = float(_MARGIN), float(_LEGEND_TOP)

    def placed(width: float) -> tuple[float, float]:
        nonlocal x, y
        if x > _MARGIN and x + width > WIDTH - _RIGHT:
            x, y = float(_MARGIN), y + _ROW
        at = x, y
        x += width + _GAP
        return at

    for label, colour in entries:
        left, base = placed(_SWATCH + 6 + text_width(label, _TEXT))
        items.append(Lines([[(left, base - 4), (left + _SWATCH, base - 4)]], colour, 3))
        items.append(Text(left + _SWATCH + 6, base, label, colour_of("foreground"), _TEXT))
    if figure.is_smoothed:
        told = f"moving average {figure.smoothing:g} over the raw values"
        left, base = placed(text_width(told, _SMALL))
        items.append(Text(left, base, told, colour_of("muted"), _SMALL))
    return items, y + 14


def _mark_legend(figure: Figure) -> tuple[list[Item], int]:
    """What the signs on the axis mean, and the phases; and the rows that takes."""
    window = figure.window
    shown = [mark.sign for mark in figure.marks if window.first <= mark.x <= window.last]
    entries = [(one.word, one.ink, one.sign) for one in dict.fromkeys(reversed(shown))]
    found = [(fit_text(word, _SMALL, _PHASE), ink, shape) for word, ink, shape in entries]
    found = list({word: (word, ink, shape) for word, ink, shape in found}.values())
    for name, ink in _phases_without_room(figure).items():
        found.append((fit_text(name, _SMALL, _PHASE), ink, "■"))
    if not found:
        return [], 0
    rows: list[list[tuple[str, str, str]]] = [[]]
    used = 0.0
    for entry in found:
        width = _SIGN + 6 + text_width(entry[0], _SMALL) + _GAP
        if rows[-1] and used + width > WIDTH - _MARGIN - _RIGHT:
            rows.append([])
            used = 0.0
        rows[-1].append(entry)
        used += width
    rows = rows[:2]
    items: list[Item] = []
    for i, row in enumerate(rows):
        x, base = float(_MARGIN), HEIGHT - 12 - _ROW * (len(rows) - 1 - i)
        for word, ink, shape in row:
            items.append(Shape(sign(shape, x + _SIGN / 2, base - 4, _SIGN), colour_of(ink)))
            items.append(Text(x + _SIGN + 6, base, word, colour_of("muted"), _SMALL))
            x += _SIGN + 6 + text_width(word, _SMALL) + _GAP
    return items, len(rows)


# -- axes and phases -----------------------------------------------------------------------


def _values(scale: ValueScale, area: _Area) -> tuple[list[float], list[str]]:
    return scale.ticks(max(2, int(area.height / _PIXELS_PER_VALUE)))


def _axes(figure: Figure, area: _Area, scale: ValueScale) -> list[Item]:
    """Ticks with lines across the plot, their labels, the names of both axes."""
    grid, muted = colour_of("grid"), colour_of("muted")
    items: list[Item] = []
    last = np.inf
    ticks, labels = _values(scale, area)
    for y, label in zip(area.y(np.array(ticks), scale).tolist(), labels, strict=True):
        items.append(Lines([[(area.left, y), (area.right, y)]], grid, 1))
        if last - y >= _VALUES_APART:
            shown = fit_text(label, _SMALL, area.left - 14)
            items.append(Text(area.left - 8, y + 4, shown, muted, _SMALL, "end"))
            last = y
    window, taken = figure.window, 0.0
    places = window.ticks(area.columns // _PIXELS_PER_CELL) if area.columns else []
    shares = window.positions(np.array(places, np.float64))
    for x, place in zip(
        (area.left + shares * (area.right - area.left)).tolist(), places, strict=True
    ):
        items.append(Lines([[(x, area.top), (x, area.bottom)]], grid, 1))
        label = window.label(place)
        half = text_width(label, _SMALL) / 2
        centre = min(x, WIDTH - 4 - half)
        if centre - half >= taken:
            items.append(Text(centre, area.bottom + 20, label, muted, _SMALL, "middle"))
            taken = centre + half + 8
    axis = colour_of("muted")
    frame = [(area.left, area.top), (area.left, area.bottom), (area.right, area.bottom)]
    items.append(Lines([frame], axis, 1.2))
    middle = (area.left + area.right) / 2
    items.append(
        Text(middle, area.bottom + 20 + _NAME_ROOM, _x_name(figure), muted, _SMALL, "middle")
    )
    if figure.y_name:
        name = one_line(figure.y_name, 200) + (" (log)" if scale.log else "")
        shown = fit_text(name, _SMALL, area.height)
        centre = (area.top + area.bottom) / 2
        items.append(Text(16, centre, shown, muted, _SMALL, "middle", upright=True))
    return items


def _x_name(figure: Figure) -> str:
    window = figure.window
    return one_line(window.name, 200) + (" (log)" if window.log else "")


def _stretches(figure: Figure, columns: int) -> list[tuple[int, int, Band]]:
    """The first column, the column after the last one, and the band of each part of the plot."""
    bands = figure.bands_of(columns)
    if not is_readable(bands):
        return []
    found: list[tuple[int, int, Band]] = []
    for column, band in enumerate(bands):
        if band is None:
            continue
        if found and found[-1][1] == column and found[-1][2] is band:
            found[-1] = (found[-1][0], column + 1, band)
        else:
            found.append((column, column + 1, band))
    return found


def _band_name(first: int, end: int, band: Band) -> str:
    """The name of a phase, if there is room for all of it."""
    name = one_line(band.name, 60)
    return name if text_width(name, _SMALL) + 8 <= end - first else ""


def _bands(figure: Figure, area: _Area) -> list[Item]:
    """A tint behind the curves for each phase, and above it its name where there is room."""
    items: list[Item] = []
    for first, end, band in _stretches(figure, area.columns):
        x, colour = area.left + first, colour_of(band.ink)
        items.append(Box(x, area.top, end - first, area.height, colour, _TINT))
        name = _band_name(first, end, band)
        if name:
            items.append(Text(x + 2, area.top - 5, name, colour, _SMALL))
    return items


def _phases_without_room(figure: Figure) -> dict[str, str]:
    """The names and colours of the phases that are tinted but named nowhere in the plot."""
    unnamed: dict[str, str] = {}
    named: set[str] = set()
    for first, end, band in _stretches(figure, _NARROWEST):
        if _band_name(first, end, band):
            named.add(band.name)
        elif band.name:
            unnamed[one_line(band.name, 60)] = band.ink
    return {name: ink for name, ink in unnamed.items() if name not in named}


def _marks(figure: Figure, area: _Area) -> list[Item]:
    """The signs of events on the x axis; of equal signs at one place, one."""
    window = figure.window
    items: list[Item] = []
    taken: set[tuple[str, int]] = set()
    for mark in figure.marks:
        if window.first <= mark.x <= window.last:
            x = float(area.x(window.positions(np.array([mark.x])))[0])
            place = (mark.sign.word, int(x) // (_SIGN // 2))
            if place in taken:
                continue
            taken.add(place)
            colour = colour_of(mark.sign.ink)
            shape = sign(mark.sign.sign, x, area.bottom, _SIGN)
            items.append(Shape(shape, colour, one_line(mark.text, 200)))
    return items


# -- curves --------------------------------------------------------------------------------


def _curve(curve: Curve, found: Trace, area: _Area, scale: ValueScale) -> list[Item]:
    """Every value; faint where there is a moving average, which is drawn over it."""
    colour = colour_of(curve.ink)
    if curve.smooth is not None:
        raw = Lines(_points(found.raw, area, scale), colour, _THIN, _BEHIND)
        return [
            raw,
            *_spikes(found, area, scale),
            Lines(_points(found.smooth, area, scale), colour, _THICK),
        ]
    # Few values, such as validation losses, are drawn stronger: they lie over many.
    few = len(curve.points) * 20 < area.columns
    width = _THICK if few else _THIN
    pieces = _points(found.raw, area, scale)
    items: list[Item] = [Lines(pieces, colour, width)] if pieces else []
    dots = [piece for piece in pieces if len(piece) == 1]
    if dots:
        items.append(Lines(dots, colour, 5))
    return [*items, *_spikes(found, area, scale)]


def _points(
    pieces: Sequence[Sequence[tuple[float, float]]], area: _Area, scale: ValueScale
) -> list[list[Point]]:
    """Shares of the x axis and values as pixels."""
    found: list[list[Point]] = []
    for piece in pieces:
        at = np.array(piece, np.float64)
        xs, ys = np.round(area.x(at[:, 0]), 1), np.round(area.y(at[:, 1], scale), 1)
        moved = np.ones(len(at), np.bool_)
        moved[1:] = (np.diff(xs) != 0) | (np.diff(ys) != 0)
        found.append(list(zip(xs[moved].tolist(), ys[moved].tolist(), strict=True)))
    return found


def _spikes(found: Trace, area: _Area, scale: ValueScale) -> list[Item]:
    """What rises far beyond the neighbouring values, in the colour of what is odd."""
    pieces = _points(found.spikes, area, scale)
    return [Lines(pieces, colour_of("outside"), _THIN)] if pieces else []


def _odd_values(found: Trace, area: _Area, scale: ValueScale) -> list[Item]:
    """Non-finite values as lines from top to bottom, values outside the scale at its edges."""
    items: list[Item] = []
    xs = area.x(found.nonfinite).tolist()
    bad = colour_of("nonfinite")
    if xs:
        items.append(Lines([[(x, area.top), (x, area.bottom)] for x in xs], bad, 1, 0.25))
        feet = [[(x, area.bottom - _TOOTH), (x, area.bottom)] for x in xs]
        items.append(Lines(feet, bad, 2))
    with np.errstate(invalid="ignore"):
        low, high = found.envelope.low, found.envelope.high
        above, below = scale.place(high) > 1, scale.place(low) < 0
        lost = low <= 0 if scale.log else np.zeros(len(low), np.bool_)
    for where, y, shape in (
        (above, area.top + 5, "▲"),
        (below & ~lost, area.bottom - 5, "▼"),
        (lost, area.bottom - 5, "▽"),
    ):
        polygons = []
        last = -np.inf
        for column in np.flatnonzero(where).tolist():
            if column - last >= _SIGN:
                polygons += sign(shape, area.left + column + 0.5, y, _SIGN)
                last = column
        if polygons:
            items.append(Shape(polygons, colour_of("outside")))
    return items
