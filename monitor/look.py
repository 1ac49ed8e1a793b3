"""What is looked at: runs, page, charts. Frozen; every change is a new value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from monitor.chart_state import ChartState
from monitor.data.views import RunView
from monitor.list_order import ListOrder, arrange, keep_selection
from monitor.settings import Settings
from monitor.table.state import TableState

#: The pages of a run, in the order of their keys, from 1 on.
PAGES = ("overview", "charts", "dynamics", "checkpoints", "events", "log", "config", "samples")

#: The page of all runs.
TABLE = "table"


@dataclass(frozen=True)
class Look:
    """The view of all runs.

    `in_page`: the keys that move act on the page, not on the list. `focused`: one chart is shown
    alone. `run_list`, `details` and `machine` say whether those panes are shown; None: where there
    is room.
    """

    selected: str | None = None
    marked: tuple[str, ...] = ()  # runs, in the order in which they were marked
    compared: tuple[str, str] | None = None
    order: ListOrder = field(default_factory=ListOrder)
    page: str = PAGES[0]
    in_page: bool = False
    focused: bool = False
    chart: ChartState = field(default_factory=ChartState)
    run_list: bool = True
    table: TableState = field(default_factory=TableState)
    details: bool | None = None
    machine: bool | None = None

    @classmethod
    def remembered(cls, settings: Settings, selected: str | None) -> Look:
        """The view that `settings` remember, with this run selected."""
        return cls(
            selected=selected,
            order=ListOrder(settings.sort, "", settings.group, settings.show_archived),
            chart=ChartState.remembered(settings),
            run_list=settings.run_list,
            table=TableState(settings.columns, settings.table_sort, settings.table_descending),
            details=settings.details,
            machine=settings.machine,
        )

    def kept_in(self, settings: Settings) -> Settings:
        """`settings` with what of this is remembered."""
        return dataclasses.replace(
            self.chart.kept_in(settings),
            sort=self.order.sort,
            group=self.order.grouped,
            show_archived=self.order.show_archived,
            run_list=self.run_list,
            columns=self.table.columns,
            table_sort=self.table.sort,
            table_descending=self.table.descending,
            details=self.details,
            machine=self.machine,
        )

    @property
    def followed(self) -> frozenset[str]:
        """The runs to follow beside the selected one."""
        return frozenset([*self.marked, *(self.compared or ())])

    def at_run(self, run_id: str | None) -> Look:
        """The same with this run selected; a comparison with another ends."""
        if run_id == self.selected:
            return self
        return dataclasses.replace(self, selected=run_id, compared=None)

    def ordered(
        self,
        *,
        sort: str | None = None,
        query: str | None = None,
        grouped: bool | None = None,
        show_archived: bool | None = None,
    ) -> Look:
        """The same with the list in another order."""
        old = self.order
        order = ListOrder(
            old.sort if sort is None else sort,
            old.query if query is None else query,
            old.grouped if grouped is None else grouped,
            old.show_archived if show_archived is None else show_archived,
        )
        return dataclasses.replace(self, order=order)

    def settled(self, before: tuple[RunView, ...], after: tuple[RunView, ...]) -> Look:
        """The same once `after` has replaced `before`: runs that are gone are unmarked."""
        there = {run.run_id for run in after}
        look = self
        if not there.issuperset(self.marked):
            marked = tuple(run_id for run_id in self.marked if run_id in there)
            look = dataclasses.replace(self, marked=marked)
        keep = keep_selection(self.selected, before, after)
        if self.selected is None and keep is not None:
            listed = arrange(after, self.order).runs
            keep = listed[0].run_id if listed else keep
        elif self.order.query and not arrange(before, self.order).runs:
            # Nothing matched, so the keys had no run; they must not get one that is out of sight.
            listed = arrange(after, self.order).runs
            if listed and all(run.run_id != keep for run in listed):
                keep = listed[0].run_id
        return look.at_run(keep)
