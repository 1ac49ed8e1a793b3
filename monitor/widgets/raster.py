"""Polylines as braille, by plotext. The only module that knows plotext."""

from __future__ import annotations

from collections.abc import Sequence

import plotext

BLANK = "\u2800"

Polyline = tuple[Sequence[float], Sequence[float]]


def braille(polylines: Sequence[Polyline], width: int, height: int) -> list[str]:
    """`height` lines of `width` braille cells, from polylines in dots.

    The dot (0, 0) is the lower left of 2 * width by 4 * height. Coordinates must be finite and
    inside: plotext raises on others. Not for threads: plotext has one global figure.
    """
    if width < 2 or height < 2 or not polylines:
        return [BLANK * width] * height
    plotext.terminal.limit(False, False)
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.axes(False)
    figure.legend(False)
    figure.canvas("default")
    # plotext puts the limits at the centres of the outermost cells, which lie between dots.
    for axis, dots, margin in (("x", 2 * width, 0.5), ("y", 4 * height, 1.5)):
        figure.ruler(axis).frequency(0)
        figure.ruler(axis).lim(margin, dots - 1 - margin)
    for xs, ys in polylines:
        signal = figure.signal(list(xs), list(ys), marker="braille", xside="lower", yside="left")
        figure.draw(signal.lines(True).density("full", scope="line"))
    drawn: str = figure.build().string(colorless=True)
    lines = [line.replace(" ", BLANK) for line in drawn.split("\n")[:height]]
    return [line.ljust(width, BLANK)[:width] for line in lines]


def merge(below: str, above: str) -> str:
    """Two lines of braille on top of each other: the dots of both."""
    return "".join(chr(ord(a) | ord(b)) for a, b in zip(below, above, strict=True))
