"""What a page is to the app, and what it is given to show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from textual.widget import Widget

from monitor.chart_state import ChartState
from monitor.data.views import RunDetail, RunView, Snapshot
from monitor.layout import Layout
from monitor.list_order import Listing
from monitor.look import Look
from monitor.plots.scene import MAX_RUNS, RUN_INKS
from monitor.widgets.chart_pane import ChartPane


@dataclass(frozen=True)
class Seen:
    """The newest data in the way it is looked at. `now` is the time to measure ages from."""

    snapshot: Snapshot | None
    look: Look
    details: Mapping[str, RunDetail]
    now: float
    listing: Listing = field(default_factory=Listing)

    @property
    def view(self) -> RunView | None:
        """The selected run."""
        return self.snapshot.run(self.look.selected) if self.snapshot else None

    @property
    def detail(self) -> RunDetail | None:
        """What was read of the selected run."""
        return self.details.get(self.look.selected or "")

    @property
    def overlaid(self) -> list[tuple[RunView, RunDetail]]:
        """The selected run, then those marked with it, as far as they have been read."""
        if self.snapshot is None:
            return []
        found = []
        for run_id in dict.fromkeys([self.look.selected or "", *self.look.marked]):
            view, detail = self.snapshot.run(run_id), self.details.get(run_id)
            if view is not None and detail is not None:
                found.append((view, detail))
        return found[:MAX_RUNS]

    @property
    def marks(self) -> Mapping[str, str]:
        """The marked runs, each with the ink of its curves."""
        overlaid = zip(self.overlaid, RUN_INKS, strict=False)
        inks = {view.run_id: ink for (view, _), ink in overlaid}
        return {run_id: inks.get(run_id, "muted") for run_id in self.look.marked}


class PageController(ABC):
    """A page: its widgets, what they show, and what the keys that move do in it."""

    name: str

    @abstractmethod
    def widgets(self) -> Sequence[Widget]:
        """All there may be on it, from top to bottom."""

    @abstractmethod
    def show(self, seen: Seen) -> None:
        """Hand `seen` to the widgets that can be seen."""

    def panes(self, seen: Seen, layout: Layout) -> dict[Widget, bool]:
        """Which of the widgets are shown while this page is the present one."""
        return dict.fromkeys(self.widgets(), True)

    def arranged(self, listing: Listing, seen: Seen) -> Listing:
        """The runs in the order of this page; `seen` has no list yet."""
        return listing

    def show_ages(self, seen: Seen) -> None:  # noqa: B027  # most pages show no age
        """Draw again what says how long ago something was."""

    def move(self, by: int) -> None:  # noqa: B027  # nothing moves
        """Go down by so many lines; up if negative."""

    def turn(self, pages: int) -> None:  # noqa: B027
        """Go down by what is seen at once; up if negative."""

    def enter(self) -> None:  # noqa: B027
        """Open what is under the cursor."""

    def mark(self) -> bool:
        """Mark what is under the cursor; False where the page has nothing to mark."""
        return False

    def chart_after(self, moved: ChartState, before: ChartState) -> ChartState:
        """How charts are looked at once one of this page was changed to `moved`."""
        return moved

    @property
    def chart(self) -> ChartPane | None:
        """The chart that can be seen, for the keys of charts."""
        return None
