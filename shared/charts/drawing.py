"""A drawing: boxes, lines, signs and text at their places in pixels, in the order of drawing.

A picture format is a way to write these down; it decides nothing about the chart.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Anchor = Literal["start", "middle", "end"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A filled rectangle with its upper left corner at (x, y)."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    opacity: float = 1.0


@dataclass(frozen=True)
class Lines:
    """Polylines of one colour with round ends and joints; one of a single point is a dot."""

    pieces: Sequence[Sequence[Point]]
    colour: str
    width: float
    opacity: float = 1.0


@dataclass(frozen=True)
class Shape:
    """Filled polygons. `note` explains them where the pointer rests, if the format can do that."""

    polygons: Sequence[Sequence[Point]]
    colour: str
    note: str = ""


@dataclass(frozen=True)
class Text:
    """One line of text; (x, y) is on its baseline. `upright` turns it by 90° to the left."""

    x: float
    y: float
    text: str
    colour: str
    size: float
    anchor: Anchor = "start"
    bold: bool = False
    upright: bool = False


Item = Box | Lines | Shape | Text


@dataclass(frozen=True)
class Drawing:
    """`items` on a page of `width` by `height` pixels."""

    width: int
    height: int
    background: str
    items: tuple[Item, ...]


# -- text ----------------------------------------------------------------------------------

#: The width of characters in DejaVu Sans, the widest of the usual fonts, in ems.
_WIDTHS = {
    character: width
    for width, characters in (
        (0.32, "'IJijl"),
        (0.42, " !(),-./:;[\\]ft|"),
        (0.52, '"*_`r'),
        (0.62, "?FLPcksvxyz"),
        (0.78, "&DGHNOQU"),
        (0.88, "#+<=>M^w~"),
        (1.02, "%@Wm"),
    )
    for character in characters
}
_OTHER_WIDTH, _WIDE = 0.72, 1.05
_BOLD = 1.14


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """The pixels that `text` takes at most in any of the usual fonts, about."""
    ems = sum(
        _WIDE if unicodedata.east_asian_width(c) in "WF" else _WIDTHS.get(c, _OTHER_WIDTH)
        for c in text
    )
    return ems * size * (_BOLD if bold else 1.0)


def fit_text(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """`text` cut with an ellipsis to `room` pixels; empty if not even that fits."""
    if text_width(text, size, bold=bold) <= room:
        return text
    while text and text_width(text + "…", size, bold=bold) > room:
        text = text[:-1]
    return text.rstrip() + "…" if text else ""


# -- signs ---------------------------------------------------------------------------------


def sign(character: str, x: float, y: float, size: float) -> list[list[Point]]:
    """The polygons of a sign of `monitor`'s charts, centred on (x, y), about `size` wide.

    Signs are drawn as shapes so that no font has to have them. An unknown one is a disc.
    """
    half = size / 2
    unit = _SIGNS.get(character) or [_disc(0.8)]
    return [[(x + half * px, y + half * py) for px, py in polygon] for polygon in unit]


def _disc(radius: float, *, centre: Point = (0.0, 0.0), corners: int = 24) -> list[Point]:
    angles = (2 * math.pi * i / corners for i in range(corners))
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def _star() -> list[Point]:
    points = []
    for i in range(10):
        radius, angle = (1.1, 0.46)[i % 2], math.pi * i / 5 - math.pi / 2
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points


def _ring(outer: Sequence[Point], inner: Sequence[Point]) -> list[Point]:
    """The area between two outlines, as one polygon with a seam."""
    return [*outer, outer[0], inner[0], *reversed(inner)]


def _arc(start: float, end: float) -> list[Point]:
    """A thick arc from one angle to another, in degrees."""
    angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
    outside = [(math.cos(a), math.sin(a)) for a in angles]
    inside = [(0.6 * math.cos(a), 0.6 * math.sin(a)) for a in angles]
    return [*outside, *reversed(inside)]


_DIAMOND: list[Point] = [(0, -1), (1, 0), (0, 1), (-1, 0)]
_CROSS: list[Point] = [
    (-1, -0.7), (-0.7, -1), (0, -0.3), (0.7, -1), (1, -0.7), (0.3, 0),
    (1, 0.7), (0.7, 1), (0, 0.3), (-0.7, 1), (-1, 0.7), (-0.3, 0),
]  # fmt: skip
_SIGNS: dict[str, list[list[Point]]] = {
    "◆": [_DIAMOND],
    "◇": [_ring(_DIAMOND, [(0.5 * x, 0.5 * y) for x, y in _DIAMOND])],
    "■": [[(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]],
    "★": [_star()],
    "▲": [[(0, -0.9), (1, 0.8), (-1, 0.8)]],
    "▼": [[(0, 0.9), (1, -0.8), (-1, -0.8)]],
    "▽": [_ring([(0, 0.9), (1, -0.8), (-1, -0.8)], [(0, 0.3), (0.45, -0.45), (-0.45, -0.45)])],
    "◀": [[(-0.9, 0), (0.8, -1), (0.8, 1)]],
    "▸": [[(0.9, 0), (-0.8, -1), (-0.8, 1)]],
    "↑": [[(0, -1), (0.8, 0), (0.25, 0), (0.25, 1), (-0.25, 1), (-0.25, 0), (-0.8, 0)]],
    "↻": [_arc(-20, 250), [(0.15, -1.35), (0.15, -0.25), (-0.75, -0.8)]],
    "◐": [
        _ring(_disc(1.0), _disc(0.75)),
        [(0, -0.9), (0, 0.9), (-0.6, 0.65), (-0.9, 0), (-0.6, -0.65)],
    ],
    "✕": [_CROSS],
    "✗": [_CROSS],
    "!": [[(-0.25, -1), (0.25, -1), (0.17, 0.3), (-0.17, 0.3)], _disc(0.28, centre=(0, 0.75))],
}  # fmt: skip
