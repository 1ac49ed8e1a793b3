"""A scrollable page of lines under a heading that shows the position."""

from __future__ import annotations

from textual import events
from textual.strip import Strip

from monitor.palette import Colours
from monitor.widgets.cells import Piece, line
from monitor.widgets.panel import Panel

Line = list[Piece]
_WHEEL = 3  # lines


class Page(Panel):
    """Subclasses provide the content in `lines` and its name in `title`."""

    title = ""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._top = 0
        self._length = 0

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """The whole page."""
        raise NotImplementedError

    def remark(self) -> str:
        """Additional text for the heading."""
        return ""

    @property
    def rows(self) -> int:
        """The number of visible lines."""
        return max(0, self.size.height - 1)

    @property
    def bottom(self) -> int:
        """The first visible line when scrolled to the end."""
        return max(0, self._length - self.rows)

    @property
    def is_scrollable(self) -> bool:
        """Whether not all lines fit."""
        return self.bottom > 0

    def scroll_by(self, lines: int) -> None:
        """Scroll, down if positive."""
        self._top = min(max(0, self._top + lines), self.bottom)
        self.redraw()

    def scroll_pages(self, pages: int) -> None:
        """Scroll by the visible lines, less one for context."""
        self.scroll_by(pages * max(1, self.rows - 1))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll with the wheel."""
        self.scroll_by(_WHEEL)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll with the wheel."""
        self.scroll_by(-_WHEEL)
        event.stop()

    def draw(self, width: int, height: int) -> list[Strip]:
        """A heading and the visible part of the page."""
        colours = self.colours
        page = self.lines(width, colours)
        rows = max(0, height - 1)
        self._length = len(page)
        self._top = max(0, min(self._top, len(page) - rows))
        muted = colours.style("muted")
        heading: Line = [(f" {self.title}", muted)]
        if len(page) > rows:
            last = min(len(page), self._top + rows)
            heading.append((f"  {self._top + 1}-{last} of {len(page)}", muted))
        if self.remark():
            heading.append((f"  {self.remark()}", colours.style("primary")))
        strips = [line(heading, width, self.base + self.heading_style())]
        strips += [line(x, width, self.base) for x in page[self._top : self._top + rows]]
        return strips
