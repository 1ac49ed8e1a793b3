"""A widget drawn line by line, which sends only the lines that changed."""

from __future__ import annotations

from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from monitor.palette import Colours
from monitor.theme import colours_of


class Panel(Widget):
    """Subclasses return the lines from `draw`; `redraw` sends those that differ."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._strips: list[Strip] = []
        self._drawn_for: object = None
        self._base: Style | None = None
        self._drawings = 0

    @property
    def drawings(self) -> int:
        """How often `draw` has been called."""
        return self._drawings

    @property
    def colours(self) -> Colours:
        """The styles of the present theme."""
        return colours_of(self.app)

    @property
    def base(self) -> Style:
        """The widget's own background and foreground."""
        return self.rich_style if self._base is None else self._base

    def heading_style(self) -> Style:
        """The background of a panel's first line."""
        return self.colours.ground("surface")

    def draw(self, width: int, height: int) -> list[Strip]:
        """The lines to show, at most `height` of `width` cells."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again and send what changed. Hidden panels are not drawn."""
        if not self.is_mounted or not self.display or not self.size:
            self._drawn_for = None
            return
        old = self._strips
        self._render_strips()
        for y in range(max(len(old), len(self._strips))):
            before = old[y] if y < len(old) else None
            after = self._strips[y] if y < len(self._strips) else None
            if before != after:
                self.refresh(Region(0, y, self.size.width, 1))

    def _render_strips(self) -> None:
        width, height = self.size
        self._base = self.rich_style  # which Textual works out anew each time it is asked
        try:
            self._strips = self.draw(width, height)[:height]
            self._drawn_for = self._circumstances()
        finally:
            self._base = None
        self._drawings += 1

    def _circumstances(self) -> object:
        return (*self.size, self.app.theme, self.base)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The visible strips, drawn again for another size or in other colours."""
        if self._drawn_for != self._circumstances():
            self._render_strips()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """The strip of line `y`."""
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width, self.base)
