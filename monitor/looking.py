"""Looking: the keys and clicks that choose what is shown. None of them changes a run."""

from __future__ import annotations

import dataclasses
from typing import Any

from textual import events, on

from monitor.actions.registry import ACTIONS
from monitor.list_order import neighbour
from monitor.palette import CHOICES
from monitor.plots.scene import MAX_RUNS
from monitor.watching import WatchingApp
from monitor.widgets.bars import Prompt
from monitor.widgets.chart_grid import ChartGrid
from monitor.widgets.chart_pane import ChartPane
from monitor.widgets.checkpoints import CheckpointsPage
from monitor.widgets.page import Page
from monitor.widgets.page_bar import PAGES, PageBar
from monitor.widgets.run_list import RunList

_FAR = 1 << 30


class LookingApp(WatchingApp):
    """Answers every key of the registry that only looks."""

    # -- the mouse -----------------------------------------------------------------------

    @on(RunList.Chosen)
    def _run_clicked(self, message: RunList.Chosen) -> None:
        self._in_page = False
        self._select(message.run_id)

    @on(RunList.SortChosen)
    def _heading_clicked(self, message: RunList.SortChosen) -> None:
        self._reorder(sort=message.sort)
        self._tell(f"Sorted by {message.sort}.", "success")

    @on(PageBar.Chosen)
    def _page_clicked(self, message: PageBar.Chosen) -> None:
        self.action_page(message.page)

    @on(ChartGrid.Opened)
    def _chart_opened(self, message: ChartGrid.Opened) -> None:
        self._focused = True
        self._in_page = True
        self._chart = self._chart.at_chart(message.key)
        self._show()

    @on(CheckpointsPage.Clicked)
    def _checkpoint_clicked(self, message: CheckpointsPage.Clicked) -> None:
        self._at_checkpoint = message.name
        self._in_page = True
        self._show()

    # -- keys: moving --------------------------------------------------------------------

    def _moving(self, by: int) -> None:
        """Up or down, by lines: in the list, or in the page."""
        if not self._in_page:
            runs = self._snapshot.runs if self._snapshot else ()
            target = neighbour(self._listing, runs, self._selected, by)
            if target:
                self._select(target)
        elif self._page == "charts" and self._focused:
            self._focus.next_chart(max(-1, min(1, by)))
        elif self._page == "charts":
            self._move_cursor(0 if abs(by) < _FAR else by, by)
        elif self._page == "checkpoints" and self._detail and self._detail.checkpoints:
            names = [c.name for c in reversed(self._detail.checkpoints)]
            at = names.index(self._at_checkpoint) if self._at_checkpoint in names else 0
            self._at_checkpoint = names[min(max(0, at + by), len(names) - 1)]
            self._show_ages()
        elif (page := self._present_page()) is not None:
            page.scroll_by(by)

    def _move_cursor(self, across: int, down: int = 0) -> None:
        """To another chart, once there is a place for charts."""
        if not self._grid.size:
            return
        if across:
            self._grid.move_cursor(across)
        else:
            self._grid.move_cursor(down=down)

    def _present_page(self) -> Page | None:
        """The page that can be scrolled now."""
        if self._page == "overview":
            return self._details_page if self._details_page.display else None
        return self._pages_by_name().get(self._page)

    def action_next_run(self) -> None:
        """Down."""
        self._moving(1)

    def action_previous_run(self) -> None:
        """Up."""
        self._moving(-1)

    def action_first_run(self) -> None:
        """To the top."""
        self._moving(-_FAR)

    def action_last_run(self) -> None:
        """To the end."""
        self._moving(_FAR)

    def action_pages_up(self) -> None:
        """Scroll the page up, or turn to the charts before."""
        self._turn(-1)

    def action_pages_down(self) -> None:
        """Scroll the page down, or turn to the charts after."""
        self._turn(1)

    def _turn(self, pages: int) -> None:
        if self._page == "charts":
            if self._focused:
                self._focus.next_chart(pages)
            elif self._grid.size:
                self._grid.turn_page(pages)
        elif (page := self._present_page()) is not None:
            page.scroll_pages(pages)

    def action_switch_pane(self) -> None:
        """Let the keys that move act on the other pane."""
        self._in_page = not self._in_page
        self._show()

    def action_open(self) -> None:
        """Into the page; on the charts, into the one under the cursor."""
        if not self._in_page:
            self._in_page = True
            if self._page == "overview":
                self._page = "charts"
        elif self._page == "overview":
            self._page = "charts"
        elif self._page == "charts" and not self._focused:
            self._grid.open()
            return
        self._show()

    def action_leave(self) -> None:
        """Out of the chart, the page, the filter: one of them at a time."""
        if self._page == "charts" and self._focused:
            self._focused = False
        elif self._compared is not None:
            self._compared = None
        elif self._in_page:
            self._in_page = False
        elif self._order.query:
            self._reorder(query="")
            return
        elif self._page != PAGES[0]:
            self._page = PAGES[0]
        self._show()

    # -- keys: pages ---------------------------------------------------------------------

    def action_page(self, name: str) -> None:
        """Show a page of the run; the charts again are all of them."""
        if name == self._page:
            self._focused = False
        self._page = name
        self._in_page = name != "overview"
        if name == "config":
            self._compared = None
        self._show()

    def action_details(self) -> None:
        """Show or hide the details, which are on the overview."""
        if self._page != "overview":
            self._page = "overview"
            self._details_wanted = True
        else:
            self._details_wanted = not self.screen_stack[0].has_class("-details")
        self._remember(details=self._details_wanted)
        self._show()

    def action_machine(self) -> None:
        """Show or hide the machine."""
        if self._snapshot is None or self._snapshot.machine is None:
            self._tell("This machine has told nothing of itself yet.", "warning")
            return
        self._machine_wanted = not self._machine.display
        self._remember(machine=self._machine_wanted)
        self._show()

    def action_compare(self) -> None:
        """Lay the configurations of two runs side by side."""
        marked = [m for m in self._marked if self._snapshot and self._snapshot.run(m)]
        pair = marked[:2] if len(marked) >= 2 else [*marked, self._selected or ""]
        if len(pair) < 2 or pair[0] == pair[1] or not pair[1]:
            self._tell("Mark one run with Space and select another to compare them.", "warning")
            return
        self._page, self._in_page = "config", True
        self._compared = (pair[0], pair[1])
        self._source.follow(frozenset([*self._marked, *pair]))
        self._show()

    def action_mark(self) -> None:
        """Mark the checkpoint under the cursor, or the run for the charts."""
        if self._in_page and self._page == "checkpoints":
            self._mark_checkpoint()
            return
        view = self.selected
        if view is None:
            return
        if view.run_id in self._marked:
            del self._marked[view.run_id]
        elif len(self._marked) >= MAX_RUNS:
            self._tell(f"At most {MAX_RUNS} runs can be shown in one chart.", "warning")
            return
        else:
            self._marked[view.run_id] = None
        self._source.follow(frozenset(self._marked))
        self._show()

    def _mark_checkpoint(self) -> None:
        if not (self._selected and self._at_checkpoint):
            return
        marked = self._doomed.setdefault(self._selected, set())
        marked ^= {self._at_checkpoint}
        self._moving(1)
        self._show_ages()

    # -- keys: the list ------------------------------------------------------------------

    def _reorder(self, **changes: Any) -> None:
        self._order = dataclasses.replace(self._order, **changes)
        order = self._order
        self._remember(sort=order.sort, group=order.grouped, show_archived=order.show_archived)
        self._show()

    def action_sort(self) -> None:
        """Sort by the next of the orders."""
        following = self._order.sorted_by_next().sort
        self._reorder(sort=following)
        self._tell(f"Sorted by {following}.", "success")

    def action_group(self) -> None:
        """Group runs of one name, or not."""
        self._reorder(grouped=not self._order.grouped)

    def action_archived(self) -> None:
        """Show or hide archived runs."""
        self._reorder(show_archived=not self._order.show_archived)

    def action_filter(self) -> None:
        """Ask for a filter."""
        self._prompt.open(self._order.query)
        self._keys.display = False

    async def on_event(self, event: events.Event) -> None:
        """Keys that were on their way when the filter was opened belong to it, not to actions."""
        if isinstance(event, events.Key) and event.is_forwarded and self._prompt.is_open:
            if event.is_printable and event.character:
                self._prompt.type(event.character)
                return
            if event.key == "enter":
                self._prompt.action_keep()
                return
        await super().on_event(event)

    @on(Prompt.Changed)
    def _filter_typed(self, message: Prompt.Changed) -> None:
        message.stop()
        self._reorder(query=message.text)
        self._prompt.say(
            self._listing.problem or f"{len(self._listing.runs)} of {self._listing.total}"
        )

    @on(Prompt.Closed)
    def _filter_closed(self, message: Prompt.Closed) -> None:
        message.stop()
        self._keys.display = True
        self.set_focus(None)
        self._in_page = False
        self._reorder(query=message.text)
        listed = [run.run_id for run in self._listing.runs]
        if listed and self._selected not in listed:
            self._select(listed[0])  # keys must not act on a run that is out of sight

    # -- keys: charts --------------------------------------------------------------------

    def _pane(self) -> ChartPane | None:
        """The charts that can be seen."""
        panes: tuple[ChartPane, ...] = (self._focus, self._grid, self._loss)
        return next((pane for pane in panes if pane.display), None)

    def _perform(self, act: str) -> None:
        pane = self._pane()
        if pane is None:
            self._tell("There is no chart on this page; 2 shows them.", "warning")
        else:
            pane.perform(act)

    def action_zoom_in(self) -> None:
        """Come closer."""
        self._perform("zoom_in")

    def action_zoom_out(self) -> None:
        """Go away."""
        self._perform("zoom_out")

    def action_pan(self, direction: int) -> None:
        """Earlier or later; in a grid that shows all there is, to the chart beside."""
        if self._page == "charts" and not self._focused and not self._chart.is_zoomed:
            self._move_cursor(direction)
        else:
            self._perform("pan_left" if direction < 0 else "pan_right")

    def action_zoom_reset(self) -> None:
        """All there is."""
        self._perform("reset")

    def action_log_y(self) -> None:
        """Change the value scale."""
        self._perform("log_y")

    def action_log_x(self) -> None:
        """Change the x scale."""
        self._perform("log_x")

    def action_x_axis(self) -> None:
        """Change what x is."""
        before = self._chart.axis
        self._perform("next_axis")
        pane = self._pane()
        if pane is not None and pane.state.axis == before:
            self._tell("This run tells neither the time nor the tokens of its steps.", "warning")

    def action_smooth(self, by: int) -> None:
        """Smooth more or less."""
        self._perform("smoother" if by > 0 else "rougher")

    def action_crosshair(self, by: int) -> None:
        """Move the crosshair by one column, or by ten."""
        far = "far_" if abs(by) > 1 else ""
        self._perform(f"crosshair_{far}left" if by < 0 else f"crosshair_{far}right")

    def action_to_mark(self, by: int) -> None:
        """Move the crosshair to a mark on the axis."""
        self._perform("previous_mark" if by < 0 else "next_mark")

    # -- keys: everything else -----------------------------------------------------------

    def action_refresh(self) -> None:
        """Read everything again now."""
        self._source.refresh()

    def action_help(self) -> None:
        """Show the keys."""
        from monitor.screens.dialogs import HelpScreen

        self.push_screen(HelpScreen(ACTIONS))

    def action_theme(self) -> None:
        """The next colours."""
        if self.theme not in CHOICES:
            self._tell(f"This terminal keeps its own colours ({self.theme}).", "warning")
            return
        following = CHOICES[(CHOICES.index(self.theme) + 1) % len(CHOICES)]
        self.theme = following
        self._remember(theme=following)
        self._tell(f"Colours: {following}.", "success")
