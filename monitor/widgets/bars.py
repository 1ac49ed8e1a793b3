"""The first and the last line of the screen."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from textual.geometry import Size
from textual.strip import Strip

from monitor.actions.registry import Action
from monitor.data.views import RunView
from monitor.widgets.cells import Piece, line, spread
from monitor.widgets.panel import Panel

_ORDER = ("running", "initializing", "paused", "stopping", "stalled", "crashed", "failed", "queued")
_NOTICE_LINES = 4


class TopBar(Panel):
    """Where we look, and how the runs are doing."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._runs_dir = ""
        self._counts: tuple[tuple[str, int], ...] = ()

    def show(self, runs_dir: str, runs: Sequence[RunView]) -> None:
        """Count the runs of every status that matters now."""
        counted = Counter(run.status for run in runs)
        counts = tuple((s, counted[s]) for s in _ORDER if counted[s])
        if (runs_dir, counts) != (self._runs_dir, self._counts):
            self._runs_dir, self._counts = runs_dir, counts
            self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """One line."""
        colours = self.colours
        muted = colours.style("muted")
        left: list[Piece] = [
            (" train-monitor ", colours.style("primary", bold=True)),
            (f" {self._runs_dir}", muted),
        ]
        right: list[Piece] = []
        for status, count in self._counts:
            right += [(" · ", muted)] if right else []
            right.append((f"{count} {status}", colours.status(status)))
        right.append((" ", muted))
        return [spread(left, right, width, self.base)]


class Notice(Panel):
    """What an act has come to, laid over the lines above the keys for a while."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.text = ""
        self._colour = "primary"

    def show(self, text: str, colour: str) -> None:
        """Show `text`, already safe, in the colour of that name; nothing if it is empty."""
        self.text, self._colour = text, colour
        self.display = bool(text)
        self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the text needs."""
        return max(1, len(self._folded(width)))

    def draw(self, width: int, height: int) -> list[Strip]:
        """The text, word by word."""
        colours = self.colours
        rail, text = colours.style(self._colour, bold=True), colours.style("foreground")
        return [line([(" ▌ ", rail), (x, text)], width, self.base) for x in self._folded(width)]

    def _folded(self, width: int) -> list[str]:
        return textwrap.wrap(self.text, max(10, width - 4))[:_NOTICE_LINES]


class KeyBar(Panel):
    """The keys of the registry that have a label."""

    def __init__(self, actions: Sequence[Action], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._actions = [a for a in actions if a.label]

    def draw(self, width: int, height: int) -> list[Strip]:
        """One line, as many keys as there is room for."""
        colours = self.colours
        key, word = colours.style("primary", bold=True), colours.style("muted")
        pieces: list[Piece] = []
        if width >= 96:
            pieces += [(" j k", key), (" select ", word)]
        for action in self._actions:
            pieces += [(f" {action.shown}", key), (f" {action.label} ", word)]
        return [line(pieces, width, self.base)]
