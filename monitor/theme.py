"""Colours: one Textual theme, whose variables name what is drawn."""

from __future__ import annotations

from collections.abc import Iterable

from rich.style import Style
from textual.app import App
from textual.theme import Theme

NIGHT = Theme(
    name="night",
    primary="#6cb6ff",
    secondary="#8b9bb4",
    warning="#f5a742",
    error="#ff6b6b",
    success="#63d297",
    accent="#56d4dd",
    foreground="#d5dce6",
    background="#0f1319",
    surface="#171d26",
    panel="#212a36",
    dark=True,
    variables={
        "muted": "#7c8899",
        "faint": "#3a4554",
        "rail": "#2a3441",
        "train": "#56d4dd",
        "val": "#f7c948",
        "nonfinite": "#ff5c7a",
        "outside": "#ff9f43",
        "phase-warmup": "#f5a742",
        "phase-full": "#4c9bff",
        "phase-predict": "#5fd38d",
        "phase-correct": "#e879c6",
        "phase-1": "#a78bfa",
        "phase-2": "#2dd4bf",
        "phase-3": "#f472b6",
        "phase-4": "#facc15",
        "status-running": "#63d297",
        "status-initializing": "#6cb6ff",
        "status-queued": "#8b9bb4",
        "status-paused": "#f7c948",
        "status-stopping": "#f7c948",
        "status-stalled": "#ff9f43",
        "status-crashed": "#ff6b6b",
        "status-failed": "#ff6b6b",
        "status-completed": "#6cb6ff",
        "status-cancelled": "#8b9bb4",
        "status-preempted": "#a78bfa",
        "status-idle": "#8b9bb4",
        "footer-key-foreground": "#6cb6ff",
    },
)

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

_NAMED_PHASES = ("warmup", "full", "predict", "correct")
_OTHER_PHASES = 4


class Colours:
    """Styles by the name of what is drawn, from the app's present theme."""

    def __init__(self, app: App[object]) -> None:
        self._variables = app.theme_variables
        self.key = app.theme

    def style(self, name: str, *, bold: bool = False) -> Style:
        """The style of a theme variable; the foreground where the theme has no such variable."""
        colour = self._variables.get(name) or self._variables.get("foreground")
        # Variables such as "auto 87%" are for Textual's own CSS.
        usable = colour if colour and colour.startswith("#") else None
        return Style(color=usable, bold=bold or None)

    def status(self, status: str, *, bold: bool = False) -> Style:
        """The style of a run's status."""
        return self.style(f"status-{status}" if status in STATUS_SIGNS else "muted", bold=bold)

    def phases(self, names: Iterable[str]) -> dict[str, Style]:
        """A style per phase: the known ones have their own, others take turns."""
        styles: dict[str, Style] = {}
        others = 0
        for name in names:
            if name in styles:
                continue
            if name in _NAMED_PHASES:
                styles[name] = self.style(f"phase-{name}")
            else:
                styles[name] = self.style(f"phase-{others % _OTHER_PHASES + 1}")
                others += 1
        return styles


def status_sign(status: str) -> str:
    """The sign of a status; a question mark for one nobody knows."""
    return STATUS_SIGNS.get(status, "?")
