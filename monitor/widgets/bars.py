"""The first and the last line of the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from textual.strip import Strip

from monitor.actions.registry import Action
from monitor.data.views import RunView
from monitor.widgets.cells import Piece, line, spread
from monitor.widgets.panel import Panel

_ORDER = ("running", "initializing", "paused", "stopping", "stalled", "crashed", "failed", "queued")


class TopBar(Panel):
    """Where we look, and how the runs are doing."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
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


class KeyBar(Panel):
    """The keys of the registry that have a label."""

    def __init__(self, actions: Sequence[Action], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._actions = [a for a in actions if a.label]

    def draw(self, width: int, height: int) -> list[Strip]:
        """One line, as many keys as there is room for."""
        colours = self.colours
        pieces: list[Piece] = [
            (" j k", colours.style("primary", bold=True)),
            (" select", colours.style("muted")),
        ]
        for action in self._actions:
            pieces += [
                (f"  {action.shown}", colours.style("primary", bold=True)),
                (f" {action.label}", colours.style("muted")),
            ]
        return [line(pieces, width, self.base)]
