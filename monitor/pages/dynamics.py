"""How the main metric has moved lately, in numbers and, where there is room, as a chart."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from monitor.chart_state import ChartState
from monitor.layout import Layout
from monitor.pages.page import PageController, Seen
from monitor.plots.curves import CurveStore
from monitor.widgets.chart_focus import ChartFocus
from monitor.widgets.dynamics_page import DynamicsPage as DynamicsLines

_RECENT_WEIGHT = 0.95  # of the moving average over the latest values


class DynamicsPage(PageController):
    """The latest values, and what can be said of them."""

    name = "dynamics"

    def __init__(self, store: CurveStore, *, ascii: bool) -> None:
        self._recent = ChartFocus(id="recent", store=store, ascii=ascii)
        self._lines = DynamicsLines(id="dynamics")

    def widgets(self) -> Sequence[Widget]:
        """The chart of the latest values, and the lines."""
        return [self._recent, self._lines]

    def panes(self, seen: Seen, layout: Layout) -> dict[Widget, bool]:
        """The chart needs room of its own."""
        return {self._recent: layout.is_tall, self._lines: True}

    def show(self, seen: Seen) -> None:
        """Show the selected run."""
        view, detail = seen.view, seen.detail
        main = seen.look.chart.main
        self._lines.show(view, detail, main)
        if self._recent.display and view is not None and detail is not None:
            first, last = self._lines.window
            recent = ChartState(main=main, span=float(last - first) or None, weight=_RECENT_WEIGHT)
            self._recent.show([(view, detail)], recent)

    def move(self, by: int) -> None:
        """Scroll the lines."""
        self._lines.scroll_by(by)

    def turn(self, pages: int) -> None:
        """Scroll the lines by what is seen at once."""
        self._lines.scroll_pages(pages)

    def chart_after(self, moved: ChartState, before: ChartState) -> ChartState:
        """Its chart has a window of its own."""
        return before
