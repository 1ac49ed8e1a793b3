"""Inks of a picture as Rich styles, in the colours of a palette."""

from __future__ import annotations

from collections.abc import Mapping

from rich.color import Color
from rich.color_triplet import ColorTriplet
from rich.style import Style

from monitor.chart.picture import Ink
from monitor.palette import Colours

#: Shares of the colour itself; the rest is the background's.
_DIM = 0.45
_GROUND = 0.13


class InkStyles:
    """Remembers the styles it made, so keep it for as long as the palette."""

    def __init__(
        self, colours: Colours, base: Style, grounds: Mapping[str, Style] | None = None
    ) -> None:
        """`base` is the background; `grounds` gives named ones, others are tints of their colour.

        Without colours in `base` (NO_COLOR, a terminal's own palette) nothing is tinted.
        """
        self._colours = colours
        self._base = base
        self._grounds = dict(grounds or {})
        self._styles: dict[tuple[Ink, str], Style] = {}

    def style(self, ink: Ink, ground: str) -> Style:
        """The style of characters in `ink` on the background named `ground`, "" for none."""
        style = self._styles.get((ink, ground))
        if style is None:
            style = self._styles[ink, ground] = self._made(ink, ground)
        return style

    def _made(self, ink: Ink, ground: str) -> Style:
        base = self._base
        if ground:
            base = base + (self._grounds[ground] if ground in self._grounds else self._tint(ground))
        style = self._colours.style(ink.name, bold=ink.weight == "bold")
        if ink.weight == "dim":
            mixed = _mix(style.color, base.bgcolor, _DIM)
            style = style + (Style(color=mixed) if mixed else Style(dim=True))
        return base + style

    def _tint(self, name: str) -> Style:
        colour = self._colours.style(name).color
        return Style(bgcolor=_mix(colour, self._base.bgcolor, _GROUND))


def _mix(colour: Color | None, ground: Color | None, share: float) -> Color | None:
    """`share` of `colour` on `ground`; None unless both are true colours."""
    if colour is None or ground is None or colour.triplet is None or ground.triplet is None:
        return None
    pairs = zip(colour.triplet, ground.triplet, strict=True)
    red, green, blue = (round(c * share + g * (1 - share)) for c, g in pairs)
    return Color.from_triplet(ColorTriplet(red, green, blue))
