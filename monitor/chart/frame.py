"""A whole chart: heading, value axis, canvas, x axis with its marks, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.chart import dots
from monitor.chart.canvas import NONFINITE, OUTSIDE, Layer, draw_canvas
from monitor.chart.picture import Ink, Picture, Piece, cell_count, clip, clip_middle
from shared.charts.figure import Figure, is_readable
from shared.charts.labels import number
from shared.charts.reduce import Envelope
from shared.charts.scale import ValueScale
from shared.charts.smoothing import line_between
from shared.charts.window import Window

_ROWS_PER_TICK = 2.5
#: Cells of the value axis if there is room, so that stacked charts are aligned.
_GUTTER = 7
_LEAST_CANVAS = 8  # cells; a narrower chart has no value axis
_MUTED, _FAINT, _TEXT = Ink("muted"), Ink("faint"), Ink("foreground")
_CROSSHAIR = Ink("crosshair", "bold")


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure and what only a screen shows with it.

    `title`, `remarks` and `note` stand in the heading, `crosshair` is an x, `ascii` is for
    terminals that cannot show braille.
    """

    figure: Figure
    title: str = ""
    crosshair: float | None = None
    remarks: Sequence[Piece] = ()
    note: str = ""
    ascii: bool = False


@dataclass(frozen=True)
class Layout:
    """Where things are: `gutter` cells for the value axis, then `columns` by `rows` of canvas.

    The canvas begins in row `top`; `axis` and `labels` say whether those rows are there.
    """

    gutter: int
    columns: int
    top: int
    rows: int
    axis: bool
    labels: bool

    def x_of(self, cell: int, window: Window) -> float | None:
        """The x under a cell of the picture, such as the mouse; None outside the canvas."""
        column = cell - self.gutter
        if not 0 <= column < self.columns:
            return None
        edges = window.edges(self.columns)
        return min(float(edges[column]), window.last)


def lay_out(plot: Plot, width: int, height: int) -> tuple[Layout, list[Layer], ValueScale]:
    """Divide `width` by `height` cells. The width of the labels depends on the values drawn."""
    top = 1 if height >= 3 else 0
    axis, labels = height >= 4, height >= 5
    rows = max(0, height - top - axis - labels)
    gutter, again = (_GUTTER if width >= 5 * _GUTTER else 0), True
    while True:
        columns = max(0, width - gutter - (1 if gutter else 0))
        layers = _layers(plot, columns)
        scale = plot.figure.scale([layer.envelope for layer in layers])
        _, texts = _value_ticks(scale, rows)
        wanted = max((len(text) for text in texts), default=1) + 3
        if width - wanted - 1 < _LEAST_CANVAS:
            wanted = 0
        # The second time labels can only be slightly narrower or wider; then they are cut.
        if wanted == gutter or _GUTTER == gutter > wanted > 0 or not again:
            return Layout(gutter, columns, top, rows, axis, labels), layers, scale
        gutter, again = wanted, False


def draw(plot: Plot, width: int, height: int) -> Picture:
    """The chart in `width` by `height` cells; without room, the curves are left out last."""
    picture = Picture(width, height)
    if width < 1 or height < 1:
        return picture
    layout, layers, scale = lay_out(plot, width, height)
    if layout.columns and layout.rows:
        canvas = draw_canvas(layers, scale, layout.columns, layout.rows)
        _paste(picture, canvas, layout)
        _draw_values(picture, layout, scale)
        _draw_bands(picture, layout, plot)
        _draw_crosshair(picture, layout, plot)
    if layout.top:
        _draw_heading(picture, layout, plot, layers, scale)
    if layout.axis and layout.columns:
        _draw_axis(picture, layout, plot)
    if plot.ascii:
        picture.to_ascii()
    return picture


def _layers(plot: Plot, columns: int) -> list[Layer]:
    edges = plot.figure.window.edges(2 * max(1, columns))
    layers = []
    for curve in plot.figure.curves:
        bounds = curve.find(edges)
        line = None if curve.smooth is None else line_between(curve.smooth, bounds)
        layers.append(Layer(curve.ink, curve.points.between(bounds), line))
    return layers


def _paste(picture: Picture, canvas: Picture, layout: Layout) -> None:
    numbers = np.array([picture.ink(*ink) for ink in canvas.palette], np.uint16)
    rows = slice(layout.top, layout.top + layout.rows)
    columns = slice(layout.gutter, layout.gutter + layout.columns)
    picture.characters[rows, columns] = canvas.characters
    picture.inks[rows, columns] = numbers[canvas.inks]


def _area(picture: Picture, layout: Layout) -> tuple[NDArray[np.uint32], NDArray[np.uint16]]:
    """The characters and inks of the canvas, as views."""
    rows = slice(layout.top, layout.top + layout.rows)
    columns = slice(layout.gutter, layout.gutter + layout.columns)
    return picture.characters[rows, columns], picture.inks[rows, columns]


def _value_ticks(scale: ValueScale, rows: int) -> tuple[list[float], list[str]]:
    return scale.ticks(max(2, int(rows / _ROWS_PER_TICK)))


def _draw_values(picture: Picture, layout: Layout, scale: ValueScale) -> None:
    """The value axis, and a grid line across the canvas at every label."""
    if not layout.gutter:
        return
    bar = layout.gutter - 1
    picture.characters[layout.top : layout.top + layout.rows, bar] = ord("│")
    picture.inks[layout.top : layout.top + layout.rows, bar] = picture.ink(*_FAINT)
    characters, inks = _area(picture, layout)
    at_row: dict[int, str] = {}
    for tick, text in zip(*_value_ticks(scale, layout.rows), strict=True):
        at_row[scale.row_of(tick, layout.rows)] = text
    for row, text in at_row.items():
        y = layout.top + row
        room = layout.gutter - 2
        picture.write(y, 0, clip(text, room).rjust(room), _MUTED)
        picture.write(y, bar, "┤", _FAINT)
        blank = characters[row] == ord(" ")
        characters[row, blank] = ord("┈")
        inks[row, blank] = picture.ink("rail")


def _bands_of(plot: Plot, columns: int) -> list[str]:
    """The ink of the band at the end of each column; empty before the first."""
    return [band.ink if band else "" for band in plot.figure.bands_of(columns)]


def _draw_bands(picture: Picture, layout: Layout, plot: Plot) -> None:
    """A background for every phase, if there are several and each is wide enough to be seen."""
    bands = plot.figure.bands_of(layout.columns)
    if is_readable(bands):
        grounds = [picture.ground(band.ink if band else "") for band in bands]
        rows = slice(layout.top, layout.top + layout.rows)
        picture.grounds[rows, layout.gutter : layout.gutter + layout.columns] = grounds


def _crosshair_column(layout: Layout, plot: Plot) -> int:
    if plot.crosshair is None or not layout.columns:
        return -1
    return int(plot.figure.window.columns_of([plot.crosshair], layout.columns)[0])


def _draw_crosshair(picture: Picture, layout: Layout, plot: Plot) -> None:
    column = _crosshair_column(layout, plot)
    if column < 0:
        return
    characters, inks = _area(picture, layout)
    blank = np.isin(characters[:, column], (ord(" "), ord("┈"), dots.BLANK))
    characters[blank, column] = ord("│")
    inks[blank, column] = picture.ink("crosshair")


def _draw_axis(picture: Picture, layout: Layout, plot: Plot) -> None:
    """The x axis in the colours of the bands, with ticks and marks, and the labels below."""
    y, gutter, columns = layout.top + layout.rows, layout.gutter, layout.columns
    window = plot.figure.window
    ticks = window.ticks(columns)
    ticked = dict(zip(window.columns_of(ticks, columns).tolist(), ticks, strict=True))
    if gutter:
        picture.write(y, gutter - 1, "└", _FAINT)
    names = _bands_of(plot, columns)
    rail = slice(gutter, gutter + columns)
    inks = {name: picture.ink(name or _FAINT.name) for name in set(names)}
    picture.inks[y, rail] = [inks[name] for name in names]
    picture.characters[y, rail] = [ord("━" if name else "─") for name in names]
    for column in ticked:
        if column >= 0:
            picture.characters[y, gutter + column] = ord("┯" if names[column] else "┬")
    places = window.columns_of([mark.x for mark in plot.figure.marks], columns).tolist()
    for column, mark in zip(places, plot.figure.marks, strict=True):
        if column >= 0:
            sign = mark.sign.ascii if plot.ascii else mark.sign.sign
            picture.write(y, gutter + column, sign, Ink(mark.sign.ink, "bold"))
    hair = _crosshair_column(layout, plot)
    if hair >= 0:
        picture.write(y, gutter + hair, "┃", _CROSSHAIR)
    if not layout.labels:
        return
    taken = np.zeros(picture.width + 2, np.bool_)
    labels = [(column, window.label(tick), _MUTED) for column, tick in ticked.items()]
    if hair >= 0 and plot.crosshair is not None:
        labels.insert(0, (hair, window.exact(plot.crosshair), _CROSSHAIR))
    for column, text, ink in labels:
        start = max(0, min(gutter + column - len(text) // 2, picture.width - len(text)))
        around = taken[start : start + len(text) + 2]  # with the cell before and the one after
        if column >= 0 and len(text) <= picture.width and not around.any():
            picture.write(y + 1, start, text, ink)
            taken[start + 1 : start + len(text) + 1] = True


# -- the heading ---------------------------------------------------------------------------


def _draw_heading(
    picture: Picture, layout: Layout, plot: Plot, layers: Sequence[Layer], scale: ValueScale
) -> None:
    """Title and legend on the left, warnings on the right; without room, details are left out."""
    picture.grounds[0, :] = picture.ground("heading")
    width = picture.width
    right = _warnings(layers, scale)
    if plot.note:
        right.append((f"{plot.note} ", Ink("primary")))
    lefts = [_legend(layout, plot, layers, detail) for detail in (3, 2, 1)]
    lefts = [[*lefts[0], *plot.remarks], *lefts]
    for left in lefts:
        if _cells_of(left) + _cells_of(right) + 1 <= width:
            picture.write_all(0, 0, left)
            picture.write_all(0, width - _cells_of(right), right)
            return
    # Warnings matter more than names, and the name of the first curve more than the others.
    while right and _cells_of(right) > width // 2:
        right.pop()
    room = width - _cells_of(right)
    x = 0
    for text, ink in _legend(layout, plot, layers, 0):
        shown = clip(text, max(0, room - 1 - x))
        x = picture.write(0, x, shown, ink)
        if shown != text:
            break
    picture.write_all(0, room, right)


def _cells_of(pieces: Sequence[Piece]) -> int:
    return sum(cell_count(text) for text, _ in pieces)


def _legend(layout: Layout, plot: Plot, layers: Sequence[Layer], detail: int) -> list[Piece]:
    """The title, then every curve: with its value (1), its full name (2), its extremes (3)."""
    pieces: list[Piece] = [(f" {plot.title}", Ink("foreground", "bold"))] if plot.title else []
    hair = _crosshair_column(layout, plot)
    for curve, layer in zip(plot.figure.curves, layers, strict=True):
        label = curve.label if detail >= 2 else clip_middle(curve.label, 8)
        pieces.append((" ━ ", Ink(curve.ink, "bold")))
        pieces.append((f"{label} ", _MUTED))
        if not detail or curve.abandoned or not len(curve.points):
            continue
        if plot.crosshair is None:
            at = len(curve.points) - 1
        else:
            at = int(curve.find(np.nextafter([plot.crosshair], np.inf))[0]) - 1
        if at < 0:
            pieces.append(("- ", _TEXT))
            continue
        value = float((curve.points.series.values if curve.smooth is None else curve.smooth)[at])
        pieces.append((f"{number(value)} ", _TEXT))
        if hair >= 0 and detail >= 3:
            pieces += _extremes(layer.envelope, hair)
    return pieces


def _extremes(envelope: Envelope, column: int) -> list[Piece]:
    """The least and the greatest value under the crosshair, if they differ."""
    cell = slice(2 * column, 2 * column + 2)
    known = np.isfinite(envelope.low[cell])
    if not known.any():
        return []
    low, high = (
        number(float(np.nanmin(envelope.low[cell]))),
        number(float(np.nanmax(envelope.high[cell]))),
    )
    return [] if low == high else [(f"{low}…{high} ", _MUTED)]


def _warnings(layers: Sequence[Layer], scale: ValueScale) -> list[Piece]:
    pieces: list[Piece] = []
    nonfinite = sum(layer.envelope.nonfinite for layer in layers)
    if nonfinite:
        pieces.append((f"✕ {nonfinite:,} nan/inf ", Ink(NONFINITE, "bold")))
    known = [layer.envelope for layer in layers if np.isfinite(layer.envelope.low).any()]
    if not known:
        return pieces
    top = max(float(np.nanmax(envelope.high)) for envelope in known)
    bottom = min(float(np.nanmin(envelope.low)) for envelope in known)
    ends = scale.place(np.array([bottom, top]))
    if ends[1] > 1:
        pieces.append((f"▲ up to {number(top, 3)} ", Ink(OUTSIDE, "bold")))
    if scale.log and bottom <= 0:
        pieces.append((f"▽ down to {number(bottom, 3)} ", Ink(OUTSIDE, "bold")))
    elif ends[0] < 0:
        pieces.append((f"▼ down to {number(bottom, 3)} ", Ink(OUTSIDE, "bold")))
    return pieces
