"""A chart of a scene as a picture, with what a plain plot lacks: coloured spikes, letters for
terminals without colours, the names of phases, and a message if there is no curve.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from monitor.chart.canvas import OUTSIDE, Layer
from monitor.chart.dots import BLANK
from monitor.chart.frame import Layout, Plot, draw, lay_out
from monitor.chart.picture import Ink, Picture, cell_count, clip
from monitor.plots.scene import Scene
from shared.charts.labels import number
from shared.charts.scale import ValueScale
from shared.charts.spikes import spikes
from shared.text import one_line

_SPACE, _RAIL = ord(" "), ord("┈")
_LETTER_EVERY = 18  # columns between two letters on a curve
_PHASE_NAME, _LEAST_NAME = 14, 5  # cells of a phase's name at most, and of one that is cut


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture, the plot it shows, and its layout."""

    picture: Picture
    plot: Plot
    layout: Layout


def paint(
    scene: Scene, key: str, width: int, height: int, *, named: bool = True, phases: bool = False
) -> Drawn:
    """The chart of `key`, optionally with the names of overlaid runs and of `phases`."""
    plot = scene.plot(key, named=named)
    picture = draw(plot, width, height)
    layout, layers, scale = lay_out(plot, max(1, width), max(1, height))
    drawn = Drawn(picture, plot, layout)
    if layout.columns < 1 or layout.rows < 1:
        return drawn
    points = sum(len(curve.points) for curve in plot.figure.curves)
    if phases and points > 1:
        _name_phases(drawn, scene)
    for layer in layers:
        _colour_spikes(picture, layout, layer, scale)
    if scene.plain and len(layers) > 1:
        letters = [
            label[0]
            for label in (curve.label for curve in plot.figure.curves if not curve.abandoned)
            if label
        ]
        _put_letters(picture, layout, list(zip(letters, layers, strict=False)), scale)
    if points <= 1 or not any(_holds(layer) for layer in layers):
        _say(picture, layout, _what_is_missing(plot, points))
    return drawn


def paint_nothing(text: str, title: str, width: int, height: int) -> Picture:
    """An empty chart: its heading, and the reason in the middle."""
    picture = Picture(width, height)
    if not width or not height:
        return picture
    picture.grounds[0, :] = picture.ground("heading")
    picture.write(0, 1, clip(title, width - 1), Ink("muted"))
    parts = textwrap.wrap(text, max(1, width - 4))[: max(1, height - 2)]
    for row, part in enumerate(parts, max(0, (height - len(parts) + 1) // 2)):
        shown = clip(part, width)
        picture.write(row, (width - cell_count(shown)) // 2, shown, Ink("muted"))
    return picture


def select(picture: Picture, *, ascii: bool = False) -> None:
    """Mark the chart under the cursor in its heading."""
    if picture.width and picture.height:
        picture.grounds[0, :] = picture.ground("cursor")
        picture.write(0, 0, ">" if ascii else "▌", Ink("primary", "bold"))


# -- spikes --------------------------------------------------------------------------------


def _colour_spikes(picture: Picture, layout: Layout, layer: Layer, scale: ValueScale) -> None:
    """Colour the dots of a spike beyond the typical values of the curve."""
    found, usual_low, usual_high = spikes(layer.envelope)
    if not found.any():
        return
    ink = picture.ink(OUTSIDE, "bold")
    own = [n for n, known in enumerate(picture.palette) if known.name == layer.ink]
    tops = scale.dots(usual_high, layout.rows)
    bottoms = scale.dots(usual_low, layout.rows)
    for column in np.flatnonzero(found).tolist():
        x = layout.gutter + column // 2
        top = layout.rows - 1 - int(tops[column]) // 4  # the row of the typical greatest value
        bottom = layout.rows - 1 - int(bottoms[column]) // 4
        for first, last in ((0, top), (bottom + 1, layout.rows)):
            rows = slice(layout.top + first, layout.top + last)
            drawn = ~np.isin(picture.characters[rows, x], (_SPACE, BLANK, _RAIL))
            picture.inks[rows, x][drawn & np.isin(picture.inks[rows, x], own)] = ink


# -- without colours -----------------------------------------------------------------------


def _put_letters(
    picture: Picture, layout: Layout, layers: Sequence[tuple[str, Layer]], scale: ValueScale
) -> None:
    """The letter of each curve, repeated along the curve."""
    taken: set[tuple[int, int]] = set()
    for i, (letter, layer) in enumerate(layers):
        line = layer.envelope.high if layer.line is None else layer.line
        known = np.isfinite(line) & np.isfinite(layer.envelope.low)
        cells = np.flatnonzero(known[0::2])
        if not len(cells):
            continue
        start = int((i + 0.5) * _LETTER_EVERY / len(layers))
        wanted = np.arange(start, layout.columns, _LETTER_EVERY)
        at = cells[np.clip(np.searchsorted(cells, wanted), 0, len(cells) - 1)]
        for cell in sorted({int(c) for c in at}):
            row = scale.row_of(float(line[2 * cell]), layout.rows)
            if (row, cell) in taken or (row, cell - 1) in taken or (row, cell + 1) in taken:
                continue
            taken.add((row, cell))
            picture.write(layout.top + row, layout.gutter + cell, letter, Ink(layer.ink, "bold"))


# -- words ---------------------------------------------------------------------------------


def _name_phases(drawn: Drawn, scene: Scene) -> None:
    """The name of each phase at its start, in the first row of the canvas, if that is free."""
    picture, layout, window = drawn.picture, drawn.layout, drawn.plot.figure.window
    found = scene.timeline.phases()
    if not found or layout.rows < 4:
        return
    edges = window.edges(layout.columns)
    starts = np.clip(np.searchsorted(edges, [x for x, _ in found], "right") - 1, 0, layout.columns)
    ends = [*starts[1:].tolist(), layout.columns]
    y = layout.top
    for (_, phase), start, end in zip(found, starts.tolist(), ends, strict=True):
        text = clip(phase.name, min(_PHASE_NAME, end - start - 2))
        size = cell_count(text)
        x = layout.gutter + start + 1
        row = picture.characters[y, x - 1 : x + size + 1]
        readable = text == phase.name or size >= _LEAST_NAME
        if readable and size and bool(np.isin(row, (_SPACE, BLANK, _RAIL)).all()):
            picture.write(y, x, text, Ink(phase.ink))


def _holds(layer: Layer) -> bool:
    return not layer.envelope.is_empty


def _what_is_missing(plot: Plot, points: int) -> str:
    if points == 1:
        (series,) = [c.points.series for c in plot.figure.curves if len(c.points)]
        value = number(float(series.values[0]))
        return f"one point so far: {value} at step {int(series.steps[0]):,}"
    return "nothing in this part of the axis" if points else "no data yet"


def _say(picture: Picture, layout: Layout, text: str) -> None:
    shown = clip(one_line(text), layout.columns - 2)
    size = cell_count(shown)
    x = layout.gutter + (layout.columns - size) // 2
    # One row below the middle, where a single point would be.
    y = layout.top + min(layout.rows - 1, layout.rows // 2 + 1)
    picture.write(y, x - 1, f" {shown} ", Ink("muted"))
