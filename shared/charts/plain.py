"""A figure as plain text, drawn with plotext: for logs, e-mail and terminals without a screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.charts.figure import Figure
from shared.charts.scale import ValueScale
from shared.charts.trace import Piece, Trace, trace
from shared.text import one_line

LEAST_WIDTH, LEAST_HEIGHT = 30, 8  # cells: less has no room for axes, labels and a curve
_DOTS = 2  # columns of braille dots in a cell
_ROWS_PER_TICK = 3
_INKS = ("blue", "orange", "green", "magenta", "cyan", "red")
_DIM = "gray"
_SIGNS = ("braille", "*", "o", "+", "x", "#")  # of curves that no colour tells apart
_LEGEND = 40  # cells that a label may have


def draw_plain(figure: Figure, width: int = 80, height: int = 24, *, colour: bool = False) -> str:
    """`figure` in `width` by `height` cells, lines joined by newlines.

    Without `colour` there is no escape sequence in it, and curves beside the first have signs of
    their own. Curves show the extremes of each column; NaN and infinite values are counted in the
    title.
    """
    width, height = max(width, LEAST_WIDTH), max(height, LEAST_HEIGHT)
    traces = [trace(curve, figure.window, _DOTS * width) for curve in figure.curves]
    scale = figure.scale(found.envelope for found in traces)
    page = _page(width, height)
    page.title(_title(figure, traces, width))
    _axes(page, figure, scale, width, height)
    for number, (curve, found) in enumerate(zip(figure.curves, traces, strict=True)):
        ink = _INKS[number % len(_INKS)]
        sign = "braille" if colour else _SIGNS[number % len(_SIGNS)]
        if found.smooth and colour:  # without colour the raw curve would hide its average
            _draw(page, found.raw, scale, (sign, _DIM), "")
        _draw(page, found.smooth or found.raw, scale, (sign, ink), _shortened(curve.label))
    page.legend(len(traces) > 1, x=1.0, y=1.0, ha="right", va="top", relative=True)
    drawn: str = page.build().string(colorless=not colour)
    page.clear()
    return "\n".join(line.rstrip() for line in drawn.split("\n")).strip("\n")


def _page(width: int, height: int) -> Any:
    """plotext's one figure, empty, of that size, whatever the terminal's."""
    import plotext

    plotext.terminal.limit(False, False)
    page = plotext.figure
    page.clear()
    page.plot_size(width, height)
    page.theme("simple")
    page.canvas("default")
    return page


def _title(figure: Figure, traces: Sequence[Trace], width: int) -> str:
    words = [one_line(figure.title, max(20, width - 30))]
    bad = sum(found.envelope.nonfinite for found in traces)
    if bad:
        words.append(f"{bad:,} NaN or inf")
    if figure.is_smoothed:
        words.append(f"smoothed {figure.smoothing:g}")
    return "  ".join(words)


def _axes(page: Any, figure: Figure, scale: ValueScale, width: int, height: int) -> None:
    """Both axes run from 0 to 1: the ticks are those of the figure's own window and scale."""
    window = figure.window
    places = window.ticks(width)
    shares = window.positions(_array(places)).tolist()
    page.ruler("x").lim(0.0, 1.0)
    page.ruler("x").ticks(shares, [window.label(x) for x in places])
    page.label(window.name, "x")
    values, labels = scale.ticks(max(2, height // _ROWS_PER_TICK))
    page.ruler("y").lim(0.0, 1.0)
    page.ruler("y").ticks(scale.place(_array(values)).tolist(), labels)
    if figure.y_name:
        page.label(one_line(figure.y_name, _LEGEND), "y")


def _draw(
    page: Any, pieces: Sequence[Piece], scale: ValueScale, look: tuple[str, str], label: str
) -> None:
    """`look` is the sign of the curve and its colour."""
    import plotext

    marker = plotext.marker(*look)
    for piece in pieces:
        xs = [x for x, _ in piece]
        ys = scale.place(_array([y for _, y in piece])).clip(0.0, 1.0).tolist()
        signal = page.signal(xs, ys, marker=marker)
        if label:  # once: the pieces of a torn curve are one entry of the legend
            signal.label(label)
            label = ""
        page.draw(signal.lines(True).density("full", scope="line"))


def _shortened(label: str) -> str:
    """A label that the legend has room for: names often differ at their ends."""
    text = one_line(label)
    half = (_LEGEND - 1) // 2
    return text if len(text) <= _LEGEND else f"{text[:half]}…{text[-half:]}"


def _array(values: Sequence[float]) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)
