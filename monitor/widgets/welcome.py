"""The empty screen: why there is nothing to show, and what to do."""

from __future__ import annotations

from rich.cells import cell_len
from textual.strip import Strip

from monitor.widgets.cells import Piece, line, wrapped
from monitor.widgets.panel import Panel


class Welcome(Panel):
    """A few centred lines."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[str, ...] = ()

    def show(self, lines: tuple[str, ...]) -> None:
        """The first line is the message, the others are advice."""
        if lines != self._lines:
            self._lines = lines
            self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """The lines in the middle."""
        colours = self.colours
        blank = Strip.blank(width, self.base)
        folded = [(i, part) for i, x in enumerate(self._lines) for part in wrapped(x, width - 2)]
        strips = [blank] * max(0, (height - len(folded)) // 2)
        for index, text in folded:
            style = colours.style("foreground" if index == 0 else "muted", bold=index == 0)
            indent = max(0, (width - cell_len(text)) // 2)
            pieces: list[Piece] = [(" " * indent + text, style)]
            strips.append(line(pieces, width, self.base))
        return strips
