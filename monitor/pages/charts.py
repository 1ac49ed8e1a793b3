"""The charts of every metric: a grid of them, or one alone."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from monitor.layout import Layout
from monitor.pages.page import PageController, Seen
from monitor.plots.curves import CurveStore
from monitor.widgets.chart_focus import ChartFocus
from monitor.widgets.chart_grid import ChartGrid
from monitor.widgets.chart_pane import ChartPane

_FAR = 1000  # lines; a longer way leads to the first or the last chart


class ChartsPage(PageController):
    """The cursor of the grid names the chart that is shown alone."""

    name = "charts"

    def __init__(self, store: CurveStore, *, ascii: bool) -> None:
        self.grid = ChartGrid(id="grid", store=store, ascii=ascii)
        self.focus = ChartFocus(id="focus", store=store, ascii=ascii)

    def widgets(self) -> Sequence[Widget]:
        """One of the two is shown."""
        return [self.grid, self.focus]

    def panes(self, seen: Seen, layout: Layout) -> dict[Widget, bool]:
        """The grid, or the chart that is focused."""
        return {self.grid: not seen.look.focused, self.focus: seen.look.focused}

    def show(self, seen: Seen) -> None:
        """Show the selected run and those overlaid."""
        pane = self.focus if seen.look.focused else self.grid
        pane.show(seen.overlaid, seen.look.chart)

    def move(self, by: int) -> None:
        """To the next metric; in the grid, to the chart below."""
        if self.focus.display:
            self.focus.next_chart(max(-1, min(1, by)))
        elif abs(by) > _FAR:
            self.move_across(by)
        elif self.grid.size:
            self.grid.move_cursor(down=by)

    def move_across(self, by: int) -> None:
        """To the chart beside, once there is a place for charts."""
        if self.grid.size:
            self.grid.move_cursor(by)

    def turn(self, pages: int) -> None:
        """To the next metric; in the grid, to the next page of charts."""
        if self.focus.display:
            self.focus.next_chart(pages)
        elif self.grid.size:
            self.grid.turn_page(pages)

    def enter(self) -> None:
        """Show the chart under the cursor alone."""
        if self.grid.display:
            self.grid.open()

    @property
    def chart(self) -> ChartPane | None:
        """The grid, or the chart that is focused."""
        return next((pane for pane in (self.focus, self.grid) if pane.display), None)
