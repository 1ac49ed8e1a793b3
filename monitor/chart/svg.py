"""A picture as SVG: dots are drawn as dots, so that no font has to have them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np

from monitor.chart.dots import BLANK
from monitor.chart.picture import Ink, Picture, cells

_WIDTH, _HEIGHT = 8.4, 17.0  # of a cell, in pixels
_FONT = 14
_FONTS = "DejaVu Sans Mono, Menlo, Consolas, monospace"
_DOT_BITS = ((0x01, 0, 0), (0x02, 0, 1), (0x04, 0, 2), (0x40, 0, 3),
             (0x08, 1, 0), (0x10, 1, 1), (0x20, 1, 2), (0x80, 1, 3))  # fmt: skip


def to_svg(
    picture: Picture,
    colour: Callable[[Ink], str],
    ground: Callable[[str], str],
    title: str = "",
) -> str:
    """The picture on `ground("")`; `colour` and `ground` give CSS colours such as "#0f1319"."""
    width, height = picture.width * _WIDTH, picture.height * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}">',
        f"<title>{_safe(title)}</title>" if title else "",
        f'<rect width="100%" height="100%" fill="{_safe(ground(""))}"/>',
        *_grounds(picture, ground),
        *_dots(picture, colour),
        f'<g font-family="{_FONTS}" font-size="{_FONT}" xml:space="preserve">',
        *_texts(picture, colour),
        "</g></svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _grounds(picture: Picture, ground: Callable[[str], str]) -> list[str]:
    found = []
    for y, row in enumerate(picture.rows()):
        x = 0
        for run in row:
            size = len(cells(run.text))
            if run.ground:
                found.append(
                    f'<rect x="{x * _WIDTH:g}" y="{y * _HEIGHT:g}" width="{size * _WIDTH + 0.1:g}" '
                    f'height="{_HEIGHT + 0.1:g}" fill="{_safe(ground(run.ground))}"/>'
                )
            x += size
    return found


def _dots(picture: Picture, colour: Callable[[Ink], str]) -> list[str]:
    """One path for each ink: strokes without length and with round ends are dots."""
    dotted = (picture.characters > BLANK) & (picture.characters < BLANK + 256)
    codes = np.where(dotted, picture.characters - BLANK, 0)
    found = []
    for number, ink in enumerate(picture.palette):
        places: list[str] = []
        for bit, right, down in _DOT_BITS:
            ys, xs = np.nonzero((codes & bit > 0) & (picture.inks == number))
            dot_x = (xs + 0.25 + 0.5 * right) * _WIDTH
            dot_y = (ys + 0.125 + 0.25 * down) * _HEIGHT
            places += [
                f"M{x:.4g} {y:.4g}h0" for x, y in zip(dot_x.tolist(), dot_y.tolist(), strict=True)
            ]
        if places:
            found.append(
                f'<path d="{"".join(places)}" stroke="{_safe(colour(ink))}" stroke-width="3.2" '
                'stroke-linecap="round"/>'
            )
    return found


def _texts(picture: Picture, colour: Callable[[Ink], str]) -> list[str]:
    """Each character where its cell is: a font of another width does no harm."""
    found = []
    dotted = (picture.characters >= BLANK) & (picture.characters < BLANK + 256)
    shown = ~dotted & (picture.characters > 32)
    for y in range(picture.height):
        for number, ink in enumerate(picture.palette):
            at = np.flatnonzero(shown[y] & (picture.inks[y] == number))
            if not len(at):
                continue
            text = "".join(map(chr, picture.characters[y, at].tolist()))
            places = " ".join(f"{x * _WIDTH:g}" for x in at.tolist())
            weight = ' font-weight="bold"' if ink.weight == "bold" else ""
            found.append(
                f'<text x="{places}" y="{(y + 0.76) * _HEIGHT:g}" fill="{_safe(colour(ink))}"'
                f"{weight}>{_safe(text)}</text>"
            )
    return found


def _safe(text: str) -> str:
    # What XML 1.0 does not allow at all is left out; the rest is escaped.
    return escape("".join(c for c in text if c >= " " and not "\ud800" <= c <= "\udfff"))
