"""How the main metric has moved lately, in numbers and, where there is room, as a chart.

Of reinforcement learning, where that is the reward: all its figures over the whole run.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from monitor.chart_state import ChartState
from monitor.data.main_metric import REWARD
from monitor.data.views import RunDetail, RunView
from monitor.layout import Layout
from monitor.pages.page import PageController, Seen
from monitor.plots.curves import CurveStore
from monitor.reinforcement import has_rewards
from monitor.widgets.chart_focus import ChartFocus
from monitor.widgets.dynamics_page import DynamicsPage as DynamicsLines
from monitor.widgets.page import Page
from monitor.widgets.rewards_page import RewardsPage

_RECENT_WEIGHT = 0.95  # of the moving average over the latest values


class DynamicsPage(PageController):
    """The latest values, and what can be said of them."""

    name = "dynamics"

    def __init__(self, store: CurveStore, *, ascii: bool) -> None:
        self._recent = ChartFocus(id="recent", store=store, ascii=ascii)
        self._lines = DynamicsLines(id="dynamics")
        self._rewards = RewardsPage(id="rewards")

    def widgets(self) -> Sequence[Widget]:
        """The chart, and the lines."""
        return [self._recent, self._lines, self._rewards]

    def panes(self, seen: Seen, layout: Layout) -> dict[Widget, bool]:
        """The chart needs room of its own."""
        rewards = has_rewards(seen.detail)
        return {self._recent: layout.is_tall, self._lines: not rewards, self._rewards: rewards}

    def show(self, seen: Seen) -> None:
        """Show the selected run."""
        view, detail = seen.view, seen.detail
        if has_rewards(detail):
            self._show_rewards(view, detail)
            return
        main = seen.look.chart.main
        self._lines.show(view, detail, main)
        if self._recent.display and view is not None and detail is not None:
            first, last = self._lines.window
            recent = ChartState(main=main, span=float(last - first) or None, weight=_RECENT_WEIGHT)
            self._recent.show([(view, detail)], recent)

    def _show_rewards(self, view: RunView | None, detail: RunDetail | None) -> None:
        """The reward with its spread, over the whole run."""
        self._rewards.show(view, detail)
        if self._recent.display and view is not None and detail is not None:
            self._recent.show([(view, detail)], ChartState(main=REWARD, weight=0.0))

    def move(self, by: int) -> None:
        """Scroll the lines."""
        self._shown.scroll_by(by)

    def turn(self, pages: int) -> None:
        """Scroll the lines by what is seen at once."""
        self._shown.scroll_pages(pages)

    @property
    def _shown(self) -> Page:
        return self._rewards if self._rewards.display else self._lines

    def chart_after(self, moved: ChartState, before: ChartState) -> ChartState:
        """Its chart has a window of its own."""
        return before
