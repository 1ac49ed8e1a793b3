"""The palettes as Textual themes."""

from __future__ import annotations

from textual.app import App
from textual.theme import Theme

from monitor.palette import PALETTES, Colours, Palette

_OWN = ("primary", "secondary", "warning", "error", "success", "accent", "foreground",
        "background", "surface", "panel")  # fmt: skip


def _theme(palette: Palette) -> Theme:
    """Textual's own words by themselves, all others as variables."""
    words = palette.words
    return Theme(
        name=palette.name,
        dark=palette.dark,
        ansi=palette.ansi,
        variables={key: colour for key, colour in words.items() if key not in _OWN},
        **{key: words[key] for key in _OWN},  # type: ignore[arg-type]
    )


THEMES = {name: _theme(palette) for name, palette in PALETTES.items()}


def colours_of(app: App[object]) -> Colours:
    """Styles in the colours of the app's present theme."""
    return Colours(app.theme, app.theme_variables)
