"""The pages of a run, by their keys."""

from __future__ import annotations

from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from monitor.look import PAGES, TABLE
from monitor.widgets.cells import Piece, line
from monitor.widgets.panel import Panel

_DYNAMICS, _REWARDS = "dynamics", "rewards"


class PageBar(Panel):
    """One line with all pages; the current one is highlighted."""

    class Chosen(Message):
        """A page was clicked."""

        def __init__(self, page: str) -> None:
            super().__init__()
            self.page = page

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._page = PAGES[0]
        self._active = False
        self._rewards = False

    def show(self, page: str, *, active: bool, rewards: bool = False) -> None:
        """Highlight this page; `active`: it has the keys. `rewards`: the run has such."""
        if (page, active, rewards) != (self._page, self._active, self._rewards):
            self._page, self._active, self._rewards = page, active, rewards
            self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """One line."""
        colours = self.colours
        muted = colours.style("muted")
        pieces: list[Piece] = []
        for number, name, shown in self._places(width):
            if name == self._page:
                mark = "▌" if self._active else " "
                here = colours.style("primary", bold=True)
                here += Style(reverse=True) if colours.flat else colours.ground("panel")
                pieces.append((f"{mark}{number} {shown}", here))
            else:
                pieces += [(f" {number}", colours.style("primary")), (f" {shown}", muted)]
        return [line(pieces, width, self.base)]

    def _places(self, width: int) -> list[tuple[int, str, str]]:
        """Number, name, and as much of the name as fits."""
        shown = {_DYNAMICS: _REWARDS} if self._rewards else {}
        named = [
            (i, name, f"{shown.get(name, name)} ") for i, name in enumerate((*PAGES, TABLE), 1)
        ]
        if _cells(named) <= width:
            return named
        del named[-1]  # its key is in the help; those of the run's own pages matter more
        if _cells(named) <= width:
            return named
        named = [(i, name, label.rstrip()) for i, name, label in named]
        if _cells(named) <= width:
            return named
        named = [(i, n, "ckpts" if n == "checkpoints" else label) for i, n, label in named]
        if _cells(named) <= width:
            return named
        return [(i, name, shown if name == self._page else shown[:4]) for i, name, shown in named]

    def on_click(self, event: events.Click) -> None:
        """Open the page under the pointer."""
        x = 0
        for _, name, shown in self._places(self.size.width):
            x += len(shown) + 3
            if event.x < x:
                self.post_message(self.Chosen(name))
                return


def _cells(places: list[tuple[int, str, str]]) -> int:
    return sum(len(shown) + 3 for _, _, shown in places)
