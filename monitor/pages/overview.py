"""The overview: the loss, phases, how the run ended, its checkpoints; or its details."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from textual.widget import Widget

from monitor.chart_state import ChartState
from monitor.layout import Layout
from monitor.pages.page import PageController, Seen
from monitor.plots.curves import CurveStore
from monitor.widgets.chart_focus import ChartFocus
from monitor.widgets.chart_pane import ChartPane
from monitor.widgets.checkpoints import Checkpoints
from monitor.widgets.details import Details
from monitor.widgets.run_head import Ending, PhaseLine


class OverviewPage(PageController):
    """The page that is shown first."""

    name = "overview"

    def __init__(self, store: CurveStore, *, ascii: bool) -> None:
        self.loss = ChartFocus(id="chart", store=store, ascii=ascii)
        self._phases = PhaseLine(id="phases")
        self._ending = Ending(id="ending")
        self._checkpoints = Checkpoints(id="checkpoints")
        self._details = Details(id="details")

    def widgets(self) -> Sequence[Widget]:
        """The chart, then what is said of the run."""
        return [self.loss, self._phases, self._ending, self._checkpoints, self._details]

    def panes(self, seen: Seen, layout: Layout) -> dict[Widget, bool]:
        """The details take the place of the other panes where they do not fit beside them."""
        view = seen.view
        only_details = layout.details and not layout.is_wide
        return {
            self.loss: not only_details,
            self._phases: view is not None and bool(view.phase or view.transitions),
            self._ending: not layout.details and self._ending.says_something(view),
            self._checkpoints: not only_details,
            self._details: layout.details,
        }

    def show(self, seen: Seen) -> None:
        """Show the selected run and those overlaid."""
        self.loss.show(seen.overlaid, seen.look.chart.at_main())
        self._phases.show(seen.view)
        self._ending.show(seen.view)
        self.show_ages(seen)

    def show_ages(self, seen: Seen) -> None:
        """Checkpoints and details say how old they are."""
        detail = seen.detail
        if self._checkpoints.display:
            found = detail.checkpoints if detail else ()
            self._checkpoints.show(found, detail.uploads if detail else {}, seen.now)
        if self._details.display:
            watched = seen.snapshot is not None and seen.snapshot.watched
            self._details.show(seen.view, detail, seen.now, watched=watched)

    def move(self, by: int) -> None:
        """Scroll the details."""
        if self._details.display:
            self._details.scroll_by(by)

    def turn(self, pages: int) -> None:
        """Scroll the details by what is seen at once."""
        if self._details.display:
            self._details.scroll_pages(pages)

    def chart_after(self, moved: ChartState, before: ChartState) -> ChartState:
        """Its chart is the main one, whichever the cursor of the grid is on."""
        return dataclasses.replace(
            moved, cursor=before.cursor, query=before.query, folded=before.folded
        )

    @property
    def chart(self) -> ChartPane | None:
        """The loss, where it is shown."""
        return self.loss if self.loss.display else None
