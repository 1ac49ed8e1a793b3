"""Moving: through the list, through a page, from one page to another."""

from __future__ import annotations

import dataclasses
from functools import partial

from monitor.controllers.host import Acts, Host
from monitor.list_order import neighbour, of_group
from monitor.look import PAGES, TABLE
from monitor.plots.scene import MAX_RUNS

_FAR = 1 << 30


class Moving:
    """The keys of the groups Move and Pages, and the marks of runs."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def acts(self) -> Acts:
        """What each of its actions does."""
        return {
            "next_run": partial(self.move, 1),
            "previous_run": partial(self.move, -1),
            "first_run": partial(self.move, -_FAR),
            "last_run": partial(self.move, _FAR),
            "pages_up": partial(self.turn, -1),
            "pages_down": partial(self.turn, 1),
            "switch_pane": self.switch_pane,
            "open": self.open,
            "leave": self.leave,
            **{f"page_{name}": partial(self.go_to_page, name) for name in (*PAGES, TABLE)},
            "details": self.toggle_details,
            "machine": self.toggle_machine,
            "mark": self.mark,
            "mark_group": self.mark_group,
            "compare": self.compare,
        }

    def move(self, by: int) -> None:
        """Up or down by lines: in the list, or in the page."""
        host, look = self._host, self._host.look
        if look.in_page:
            host.page.move(by)
            return
        runs = host.snapshot.runs if host.snapshot else ()
        target = neighbour(host.listing, runs, look.selected, by)
        if target:
            host.look = look.at_run(target)

    def turn(self, pages: int) -> None:
        """Up or down in the page, by what is seen at once."""
        self._host.page.turn(pages)

    def switch_pane(self) -> None:
        """Let the keys that move act on the other pane."""
        look = self._host.look
        if look.page != TABLE:  # which is list and page in one
            self._host.look = dataclasses.replace(look, in_page=not look.in_page)

    def open(self) -> None:
        """Into the page; from the overview to the charts, there into the one under the cursor."""
        host, look = self._host, self._host.look
        if look.page == "overview":
            host.look = dataclasses.replace(look, page="charts", in_page=True)
        elif not look.in_page:
            host.look = dataclasses.replace(look, in_page=True)
        else:
            host.page.enter()

    def leave(self) -> None:
        """Out of the chart, the comparison, the page, the filter: one of them at a time."""
        host, look = self._host, self._host.look
        charts = host.page.chart if look.page == "charts" else None
        if charts is not None and charts.scene.unmatched:
            host.look = dataclasses.replace(look, chart=look.chart.filtered(""))
        elif look.page == "charts" and look.focused:
            host.look = dataclasses.replace(look, focused=False)
        elif look.page == "charts" and look.in_page and look.chart.query:
            host.look = dataclasses.replace(look, chart=look.chart.filtered(""))
        elif look.compared is not None:
            host.look = dataclasses.replace(look, compared=None)
        elif look.in_page:
            host.look = dataclasses.replace(look, in_page=False)
        elif look.order.query:
            host.look = look.ordered(query="")
        else:
            host.look = dataclasses.replace(look, page=PAGES[0])

    def go_to_run(self, run_id: str, *, in_list: bool = False) -> None:
        """Select a run; `in_list`: the keys that move act on the list from now on."""
        look = self._host.look.at_run(run_id)
        self._host.look = dataclasses.replace(look, in_page=look.in_page and not in_list)

    def go_to_page(self, name: str) -> None:
        """Show a page of the run; the charts again are all of them."""
        look = self._host.look
        self._host.look = dataclasses.replace(
            look,
            page=name,
            in_page=name not in (PAGES[0], TABLE),
            focused=look.focused and name != look.page,
            compared=None if name == "config" else look.compared,
        )

    def open_chart(self, key: str) -> None:
        """Show one chart alone."""
        look = self._host.look
        self._host.look = dataclasses.replace(
            look, focused=True, in_page=True, chart=look.chart.at_chart(key)
        )

    def toggle_details(self) -> None:
        """Show or hide the details, which are on the overview."""
        look = self._host.look
        if look.page == "overview":
            self._host.look = dataclasses.replace(look, details=not self._host.layout.details)
        else:
            self._host.look = dataclasses.replace(look, page="overview", details=True)

    def toggle_machine(self) -> None:
        """Show or hide the machine."""
        host = self._host
        if host.snapshot is None or host.snapshot.machine is None:
            host.tell("No figures for this machine yet.", "warning")
            return
        host.look = dataclasses.replace(host.look, machine=not host.layout.machine)

    def mark(self) -> None:
        """Mark what is under the cursor of the page, or the run for the charts."""
        host, look = self._host, self._host.look
        if host.selected is None or (look.in_page and host.page.mark()):
            return
        run_id = host.selected.run_id
        if run_id in look.marked:
            marked = tuple(other for other in look.marked if other != run_id)
        elif len(look.marked) >= MAX_RUNS:
            host.tell(f"At most {MAX_RUNS} runs can be shown in one chart.", "warning")
            return
        else:
            marked = (*look.marked, run_id)
        host.look = dataclasses.replace(look, marked=marked)

    def mark_group(self) -> None:
        """Mark the runs of the selected one's sweep, or name: as many as fit, the best first."""
        host, look = self._host, self._host.look
        if host.selected is None or host.snapshot is None:
            return
        members = of_group(host.snapshot.runs, host.selected)
        marked = tuple(run.run_id for run in members[:MAX_RUNS])
        if set(marked) == set(look.marked):
            marked = ()
        elif len(members) == 1:
            host.tell("This run is in no sweep, and no other has its name.", "warning")
            return
        elif len(members) > MAX_RUNS:
            host.tell(f"The best {MAX_RUNS} of {len(members):,} runs are marked.")
        host.look = dataclasses.replace(look, marked=marked)

    def compare(self) -> None:
        """Lay the configurations of two runs side by side."""
        host, look = self._host, self._host.look
        if host.selected is None:
            return
        marked = [m for m in look.marked if host.snapshot and host.snapshot.run(m)]
        pair = marked[:2] if len(marked) >= 2 else [*marked, look.selected or ""]
        if len(pair) < 2 or pair[0] == pair[1] or not pair[1]:
            host.tell("Mark one run with Space and select another to compare them.", "warning")
            return
        host.look = dataclasses.replace(
            look, page="config", in_page=True, compared=(pair[0], pair[1])
        )
