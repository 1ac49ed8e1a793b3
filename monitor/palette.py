"""What is drawn in which colour: the palettes by name, and styles made of them.

Textual's themes are made of these in `monitor.theme`; what is drawn before Textual is loaded uses
them as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rich.style import Style

from shared.charts.phases import phase_inks

#: A sign per status, so that it can be told without colour.
STATUS_SIGNS = {
    "running": "●",
    "initializing": "◌",
    "queued": "○",
    "paused": "‖",
    "stopping": "◍",
    "stalled": "◐",
    "crashed": "✗",
    "failed": "✗",
    "completed": "✓",
    "cancelled": "■",
    "preempted": "◇",
    "idle": "·",
}

# What a status, a metric or a mark is coloured like: (name, the theme's own word for it).
_LIKE = {
    "status-running": "good",
    "status-initializing": "primary",
    "status-queued": "quiet",
    "status-paused": "attention",
    "status-stopping": "attention",
    "status-stalled": "warning",
    "status-crashed": "error",
    "status-failed": "error",
    "status-completed": "primary",
    "status-cancelled": "quiet",
    "status-preempted": "violet",
    "status-idle": "quiet",
    "footer-key-foreground": "primary",
    "heading": "surface",
    "crosshair": "foreground",
    "uploaded": "violet",
    "protected": "good",
    "tag": "violet",
}


@dataclass(frozen=True)
class Palette:
    """Colours by the names of what is drawn; `ansi`: they are the terminal's own."""

    name: str
    dark: bool
    ansi: bool
    words: Mapping[str, str]


def _palette(name: str, *, dark: bool, ansi: bool = False, **words: str) -> Palette:
    """A palette from its words, and what follows from them."""
    named = {key.replace("_", "-"): colour for key, colour in words.items()}
    for thing, word in _LIKE.items():
        named.setdefault(thing, words[word])
    return Palette(name, dark, ansi, named)


NIGHT = _palette(
    "night",
    dark=True,
    primary="#6cb6ff",
    secondary="#8b9bb4",
    warning="#ff9f43",
    error="#ff6b6b",
    success="#63d297",
    accent="#56d4dd",
    foreground="#d5dce6",
    background="#0f1319",
    surface="#171d26",
    panel="#212a36",
    muted="#8593a6",
    faint="#3a4554",
    rail="#2a3441",
    good="#63d297",
    quiet="#8b9bb4",
    attention="#f7c948",
    violet="#a78bfa",
    train="#56d4dd",
    val="#f7c948",
    nonfinite="#ff5c7a",
    outside="#ff9f43",
    phase_warmup="#f5a742",
    phase_full="#4c9bff",
    phase_predict="#5fd38d",
    phase_correct="#e879c6",
    phase_1="#a78bfa",
    phase_2="#2dd4bf",
    phase_3="#f472b6",
    phase_4="#facc15",
    curve_1="#56d4dd",
    curve_2="#f7c948",
    curve_3="#e879c6",
    curve_4="#63d297",
    curve_5="#ff9f43",
    curve_6="#a78bfa",
    curve_7="#6cb6ff",
    curve_8="#ff6b6b",
)

DAY = _palette(
    "day",
    dark=False,
    primary="#0b62c4",
    secondary="#5a6b80",
    warning="#b45309",
    error="#c81e3a",
    success="#0f7b43",
    accent="#0e7490",
    foreground="#1b2430",
    background="#fbfcfd",
    surface="#eef1f5",
    panel="#dfe5ec",
    muted="#5b6778",
    faint="#b9c2cd",
    rail="#dde3ea",
    good="#0f7b43",
    quiet="#5a6b80",
    attention="#8f6400",
    violet="#6d3fd1",
    train="#0e7490",
    val="#b45309",
    nonfinite="#c2185b",
    outside="#c2410c",
    phase_warmup="#b45309",
    phase_full="#1d5fd1",
    phase_predict="#0f7b43",
    phase_correct="#a62c86",
    phase_1="#6d3fd1",
    phase_2="#0d7a6f",
    phase_3="#be2b6b",
    phase_4="#8f6400",
    curve_1="#0e7490",
    curve_2="#b45309",
    curve_3="#a62c86",
    curve_4="#0f7b43",
    curve_5="#c2410c",
    curve_6="#6d3fd1",
    curve_7="#1d5fd1",
    curve_8="#c81e3a",
)

# The palette of Okabe and Ito (2008), which people with any colour vision can tell apart; its
# darkest colour is lightened for the dark background.
CLEAR = _palette(
    "clear",
    dark=True,
    primary="#56b4e9",
    secondary="#9aa7b5",
    warning="#e69f00",
    error="#ff7f2a",
    success="#56b4e9",
    accent="#56b4e9",
    foreground="#e6e9ee",
    background="#101214",
    surface="#1a1e22",
    panel="#272d33",
    muted="#9aa3ad",
    faint="#454c54",
    rail="#2e343a",
    good="#56b4e9",
    quiet="#9aa7b5",
    attention="#f0e442",
    violet="#cc79a7",
    train="#56b4e9",
    val="#f0e442",
    nonfinite="#ff7f2a",
    outside="#e69f00",
    phase_warmup="#e69f00",
    phase_full="#3d8fd1",
    phase_predict="#00b48a",
    phase_correct="#cc79a7",
    phase_1="#f0e442",
    phase_2="#56b4e9",
    phase_3="#ff7f2a",
    phase_4="#c9ced4",
    curve_1="#56b4e9",
    curve_2="#f0e442",
    curve_3="#cc79a7",
    curve_4="#00b48a",
    curve_5="#e69f00",
    curve_6="#ff7f2a",
    curve_7="#3d8fd1",
    curve_8="#c9ced4",
)

_SIXTEEN = {
    "primary": "ansi_bright_blue",
    "secondary": "ansi_bright_black",
    "warning": "ansi_yellow",
    "error": "ansi_red",
    "success": "ansi_green",
    "accent": "ansi_cyan",
    "foreground": "ansi_default",
    "background": "ansi_default",
    "surface": "ansi_default",
    "panel": "ansi_default",
    "muted": "ansi_bright_black",
    "faint": "ansi_bright_black",
    "rail": "ansi_bright_black",
    "good": "ansi_green",
    "quiet": "ansi_bright_black",
    "attention": "ansi_yellow",
    "violet": "ansi_magenta",
    "train": "ansi_cyan",
    "val": "ansi_yellow",
    "nonfinite": "ansi_bright_red",
    "outside": "ansi_bright_yellow",
    "phase_warmup": "ansi_yellow",
    "phase_full": "ansi_bright_blue",
    "phase_predict": "ansi_green",
    "phase_correct": "ansi_magenta",
    "phase_1": "ansi_bright_magenta",
    "phase_2": "ansi_bright_cyan",
    "phase_3": "ansi_bright_red",
    "phase_4": "ansi_bright_yellow",
    "curve_1": "ansi_cyan",
    "curve_2": "ansi_yellow",
    "curve_3": "ansi_magenta",
    "curve_4": "ansi_green",
    "curve_5": "ansi_bright_yellow",
    "curve_6": "ansi_bright_magenta",
    "curve_7": "ansi_bright_blue",
    "curve_8": "ansi_red",
}
#: What Textual's own widgets want of a theme without true colours.
_WIDGETS = {
    "ansi_background": "ansi_black",
    "ansi_foreground": "ansi_white",
    "border_blurred": "ansi_default",
    "block_cursor_foreground": "ansi_black",
    "block_cursor_background": "ansi_white",
    "input_cursor_background": "ansi_white",
    "input_cursor_foreground": "ansi_black",
    "input_cursor_text_style": "none",
    "input_selection_background": "ansi_bright_blue",
    "input_selection_foreground": "ansi_black",
    "screen_selection_background": "ansi_bright_blue",
    "screen_selection_foreground": "ansi_black",
}
#: For terminals of 16 colours: their own, whatever the person has made them.
SIXTEEN = _palette("sixteen", dark=True, ansi=True, **_SIXTEEN, **_WIDGETS)
#: No colours at all: weight tells what colour would.
MONO = _palette("mono", dark=True, ansi=True, **dict.fromkeys(_SIXTEEN, "ansi_default"), **_WIDGETS)

PALETTES = {palette.name: palette for palette in (NIGHT, DAY, CLEAR, SIXTEEN, MONO)}
#: The themes that `T` cycles through and settings may name.
CHOICES = (NIGHT.name, DAY.name, CLEAR.name)

_DIM = Style(dim=True)
_STRONG = Style(bold=True)
_WEIGHTS: dict[str, Style] = {
    **dict.fromkeys(("muted", "faint", "rail", "secondary"), _DIM),
    **dict.fromkeys(("primary", "warning", "error", "val", "nonfinite", "outside"), _STRONG),
    **{f"status-{s}": _STRONG for s in ("stalled", "crashed", "failed")},
    **{f"status-{s}": _DIM for s in ("cancelled", "idle", "queued")},
}


def theme_for(environment: Mapping[str, str], wanted: str) -> str:
    """The name of the theme for a terminal that tells of itself by these variables.

    NO_COLOR (set, and not empty) takes all colours; a terminal of 16 colours gets its own.
    """
    if environment.get("NO_COLOR"):
        return MONO.name
    terminal = environment.get("TERM", "")
    if terminal in ("dumb", "vt100", "vt220"):
        return MONO.name
    # As Rich does, which would otherwise bring our shades down to the nearest of sixteen.
    many = environment.get("COLORTERM") in ("truecolor", "24bit")
    if not many and terminal.rpartition("-")[2] not in ("256color", "kitty"):
        return SIXTEEN.name
    return wanted if wanted in CHOICES else NIGHT.name


class Colours:
    """Styles by the name of what is drawn, in the colours of the palette named `key`.

    `variables` are its words, with or without those that Textual makes of them.
    """

    def __init__(self, key: str, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.key = key

    @property
    def flat(self) -> bool:
        """Whether there are no shades of background to tell one thing from another."""
        return self.key in (SIXTEEN.name, MONO.name)

    def style(self, name: str, *, bold: bool = False) -> Style:
        """The style of a theme variable; the foreground where the theme has no such variable."""
        if self.key == MONO.name:
            weight = _WEIGHTS.get(name, Style.null())
            return weight + Style(bold=True, dim=False) if bold else weight
        colour = self._variables.get(name) or self._variables.get("foreground")
        return Style(color=_rich(colour), bold=bold or None)

    def ground(self, name: str) -> Style:
        """A background of that name; none where the terminal keeps its own."""
        return Style() if self.flat else Style(bgcolor=_rich(self._variables.get(name)))

    def selected(self, *, active: bool = True) -> Style:
        """What is laid under the selected line; less when the keys go elsewhere."""
        if self.flat:
            return Style(bold=True) if active else Style()
        return self.ground("panel" if active else "surface")

    def status(self, status: str, *, bold: bool = False) -> Style:
        """The style of a run's status."""
        return self.style(f"status-{status}" if status in STATUS_SIGNS else "muted", bold=bold)

    def phases(self, names: Iterable[str]) -> dict[str, Style]:
        """A style per phase: the known ones have their own, others take turns."""
        return {name: self.style(ink) for name, ink in phase_inks(names).items()}


def _rich(colour: str | None) -> str | None:
    """A theme variable as Rich writes it; "auto 87%" and the like are for Textual's CSS only."""
    if colour is None:
        return None
    if colour.startswith("ansi_"):
        return colour.removeprefix("ansi_")
    return colour if colour.startswith("#") else None


def status_sign(status: str) -> str:
    """The sign of a status; a question mark for one nobody knows."""
    return STATUS_SIGNS.get(status, "?")
