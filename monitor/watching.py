"""Looking: snapshots come in as messages, the app owns what is selected and shown, widgets draw.

Nothing here changes a run; what does is in `monitor.app`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import select
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from monitor.actions.registry import ACTIONS
from monitor.chart_state import ChartState
from monitor.data.poller import Source
from monitor.data.views import RunDetail, RunView, SampleView, Snapshot
from monitor.list_order import Listing, ListOrder, arrange, neighbour
from monitor.plots.curves import CurveStore
from monitor.plots.scene import MAX_RUNS, RUN_INKS
from monitor.settings import SettingsFile
from monitor.theme import CHOICES, THEMES
from monitor.widgets.bars import KeyBar, Notice, Prompt, TopBar
from monitor.widgets.chart_focus import ChartFocus
from monitor.widgets.chart_grid import ChartGrid
from monitor.widgets.chart_pane import ChartMoved, ChartPane
from monitor.widgets.checkpoints import Checkpoints, CheckpointsPage
from monitor.widgets.details import Details
from monitor.widgets.dynamics_page import DynamicsPage
from monitor.widgets.machine_panel import MachinePanel
from monitor.widgets.page import Page
from monitor.widgets.page_bar import PAGES, PageBar
from monitor.widgets.run_head import Ending, PhaseLine, RunHead
from monitor.widgets.run_list import RunList
from monitor.widgets.run_pages import ConfigPage, EventsPage, LogPage, SamplesPage
from monitor.widgets.welcome import Welcome
from shared.text import format_time, one_line

if TYPE_CHECKING:
    from textual.command import Provider

#: Cells below which nothing can be laid out; 80 by 24 is what it is made for.
MIN_WIDTH, MIN_HEIGHT = 60, 16
WIDE, TALL = 120, 32  # cells from which runs and page lie side by side, and there is room for more

BROAD = 180  # cells from which the list gets a larger share

_GRACE = 3.0  # seconds for an orderly way out after a signal
_HANGUP = 1.0  # seconds between looks at whether the terminal is still there
_AGES = 5.0  # seconds between looks at whether an age on the screen has changed
#: Seconds a notice stays, by its colour. The primary one waits to be replaced by its answer.
_NOTICE_SECONDS = {"primary": 60.0, "success": 8.0, "warning": 12.0, "error": 30.0}
_KEPT_DETAILS = 4  # runs shown at once when the selection comes back to them
_FAR = 1 << 30
_RECENT_WEIGHT = 0.95  # of the average over the latest losses


def _action_provider() -> type[Provider]:
    from monitor.screens.palette import ActionProvider

    return ActionProvider


class RunsScreen(Screen[None]):
    """The one screen under all dialogs. Tab is for its two panes, not for widgets."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.switch_pane", show=False),
        Binding("shift+tab", "app.switch_pane", show=False),
        Binding("escape", "app.leave", show=False),
    ]

    class Resized(Message):
        """It has another size now."""

    def on_resize(self) -> None:
        """Tell the app, which says what is to be seen."""
        self.post_message(self.Resized())


class WatchingApp(App[None]):
    """Shows the runs that `source` delivers."""

    TITLE = "train-monitor"
    CSS_PATH = "app.tcss"
    COMMANDS = {_action_provider}  # noqa: RUF012
    ALLOW_SELECT = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (TALL, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(a.keys), a.name, a.help, show=False) for a in ACTIONS
    ]

    class SnapshotTaken(Message):
        """New data. A newer snapshot makes an older one in the queue superfluous."""

        def __init__(self, snapshot: Snapshot) -> None:
            super().__init__()
            self.snapshot = snapshot

        def can_replace(self, message: Message) -> bool:
            """Whether `message`, the next in the queue, may be shown in this one's stead."""
            return isinstance(message, WatchingApp.SnapshotTaken)

    def __init__(
        self,
        source: Source,
        runs_dir: Path,
        *,
        selected: str | None = None,
        clock: Callable[[], float] = time.time,
        settings: SettingsFile | None = None,
        theme: str = "",
    ) -> None:
        """`theme` overrides that of the settings, for a terminal that has no such colours."""
        self._settings_file = settings or SettingsFile(None)
        kept = self._settings_file.settings
        name = theme or kept.theme
        super().__init__(ansi_color=True if THEMES[name].ansi else None)
        self._fixed_theme = bool(theme) and theme != kept.theme
        self._source = source
        self._runs_dir = runs_dir
        self._clock = clock
        self._snapshot: Snapshot | None = None
        self._selected = selected
        self._details: OrderedDict[str, RunDetail] = OrderedDict()
        self._order = ListOrder(kept.sort, "", kept.group, kept.show_archived)
        self._listing = Listing()
        self._marked: dict[str, None] = {}  # runs, in the order of their marking
        self._compared: tuple[str, str] | None = None
        self._page = PAGES[0]
        self._in_page = False  # whether the keys that move act on the page
        self._focused = False  # whether one chart is shown alone
        self._details_wanted = kept.details  # None: where there is room
        self._machine_wanted = kept.machine
        self._chart = ChartState(
            axis=kept.x_axis,  # type: ignore[arg-type]  # checked when it was read
            weight=kept.smoothing,
            log_y=frozenset(kept.log_y),
        )
        self._at_checkpoint = ""
        self._doomed: dict[str, set[str]] = {}  # marked checkpoints by run
        self._leaving = threading.Event()
        for one in THEMES.values():
            self.register_theme(one)
        self.theme = name
        self._build()

    def _build(self) -> None:
        store = CurveStore()
        self._top = TopBar(id="top")
        self._list = RunList(id="runs")
        self._machine = MachinePanel(id="machine")
        self._head = RunHead(id="head")
        self._bar = PageBar(id="pages")
        self._loss = ChartFocus(id="chart", store=store)
        self._phases = PhaseLine(id="phases")
        self._ending = Ending(id="ending")
        self._checkpoints = Checkpoints(id="checkpoints")
        self._details_page = Details(id="details")
        self._grid = ChartGrid(id="grid", store=store)
        self._focus = ChartFocus(id="focus", store=store)
        self._dynamics = DynamicsPage(id="dynamics")
        self._recent = ChartFocus(id="recent", store=store)
        self._checkpoints_page = CheckpointsPage(id="checkpoints-page")
        self._events = EventsPage(id="events")
        self._log_page = LogPage(id="log")
        self._config = ConfigPage(id="config")
        self._samples = SamplesPage(id="samples")
        self._welcome = Welcome(id="welcome")
        self._prompt = Prompt(id="prompt")
        self._keys = KeyBar(ACTIONS, id="keys")
        self._notice = Notice(id="notice")
        self._notice_timer: Timer | None = None

    # -- life ----------------------------------------------------------------------------

    def get_default_screen(self) -> Screen[Any]:
        """The screen with the runs."""
        return RunsScreen(id="_default")

    def compose(self) -> ComposeResult:
        """Runs beside or above the selected one."""
        yield self._top
        with Container(id="body"):
            with Vertical(id="side"):
                yield self._list
                yield self._machine
            with Vertical(id="run"):
                yield self._head
                yield self._bar
                yield self._loss
                yield self._phases
                yield self._ending
                yield self._checkpoints
                yield self._details_page
                yield self._grid
                yield self._focus
                yield self._recent
                yield from self._pages_by_name().values()
        yield self._welcome
        yield self._prompt
        yield self._keys
        yield self._notice

    def _pages_by_name(self) -> dict[str, Page]:
        """The pages that are lists of lines."""
        return {
            "dynamics": self._dynamics,
            "checkpoints": self._checkpoints_page,
            "events": self._events,
            "log": self._log_page,
            "config": self._config,
            "samples": self._samples,
        }

    def on_load(self) -> None:
        """Signals must find the handlers in place before the terminal is taken over."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, self._terminated, number)

    def _terminated(self, number: int) -> None:
        self._leaving.set()
        self.exit(return_code=128 + number)
        # Textual's way out writes to the terminal; one that is gone can hold it up for ever.
        last_resort = threading.Timer(_GRACE, os._exit, (128 + number,))
        last_resort.daemon = True
        last_resort.start()

    def _check_terminal(self) -> None:
        """Leave when the terminal has hung up without a SIGHUP reaching us."""
        poll = select.poll()
        poll.register(sys.__stdin__ or 0, 0)
        if poll.poll(0) and not self._leaving.is_set():
            self._terminated(signal.SIGHUP)

    def on_mount(self) -> None:
        """Begin to look."""
        self._arrange()
        self._source.start(self._publish)
        if self._selected is not None:
            self._source.select(self._selected)
        self.set_interval(_AGES, self._show_ages)
        if not self.is_headless:
            self.set_interval(_HANGUP, self._check_terminal)
        if self._settings_file.problem:
            self._tell(self._settings_file.problem, "warning")

    def _publish(self, snapshot: Snapshot) -> None:
        self.post_message(self.SnapshotTaken(snapshot))

    def on_unmount(self) -> None:
        """Let waiting threads go; training goes on without us."""
        self._leaving.set()
        self._source.stop()

    def farewell(self) -> str:
        """What to know on leaving while runs are at work; empty if none is."""
        alive = [r for r in (self._snapshot.runs if self._snapshot else ()) if r.alive]
        if not alive:
            return ""
        folder = one_line(self._runs_dir)
        if len(alive) == 1:
            name = one_line(alive[0].run_id, 120)
            what, which = f"{name} goes on training", name
        else:
            what, which = f"{len(alive)} runs go on training", "RUN"
        again = "train-monitor" + ("" if folder == "runs" else f" --runs-dir {folder}")
        stop = f"trainer stop {which}" + ("" if folder == "runs" else f" --runs-dir {folder}")
        return f"{what}. Watch again: {again}   Stop: {stop}"

    # -- data in -------------------------------------------------------------------------

    @on(SnapshotTaken)
    def _take_snapshot(self, message: SnapshotTaken) -> None:
        old = self._snapshot.runs if self._snapshot else ()
        snapshot = self._snapshot = message.snapshot
        arrived = dict(snapshot.details)
        if snapshot.detail is not None:
            arrived[snapshot.detail.run_id] = snapshot.detail
        for run_id, detail in arrived.items():
            self._details[run_id] = detail
            self._details.move_to_end(run_id)
        while len(self._details) > _KEPT_DETAILS + len(self._marked):
            self._details.popitem(last=False)
        there = {run.run_id for run in snapshot.runs}
        if not there.issuperset(self._marked):
            self._marked = {run_id: None for run_id in self._marked if run_id in there}
            self._source.follow(frozenset(self._marked))
        keep = keep_selection(self._selected, old, snapshot.runs)
        if self._selected is None and keep is not None:
            listed = arrange(snapshot.runs, self._order).runs
            keep = listed[0].run_id if listed else keep
        if keep != self._selected:
            self._select(keep)
        else:
            self._show()

    @on(RunList.Chosen)
    def _run_clicked(self, message: RunList.Chosen) -> None:
        self._in_page = False
        self._select(message.run_id)

    @on(PageBar.Chosen)
    def _page_clicked(self, message: PageBar.Chosen) -> None:
        self.action_page(message.page)

    @on(ChartGrid.Opened)
    def _chart_opened(self, message: ChartGrid.Opened) -> None:
        self._focused = True
        self._in_page = True
        self._chart = self._chart.at_chart(message.key)
        self._show()

    @on(ChartMoved)
    def _chart_moved(self, message: ChartMoved) -> None:
        state = message.state
        if self._page == "dynamics":
            return  # its chart has a window of its own
        if self._page == "overview":  # its chart is that of the loss, whatever the grid is at
            state = state.at_chart(self._chart.cursor)
        self._chart = state
        self._remember(x_axis=state.axis, smoothing=state.weight, log_y=tuple(sorted(state.log_y)))
        self._show_page()

    @on(CheckpointsPage.Clicked)
    def _checkpoint_clicked(self, message: CheckpointsPage.Clicked) -> None:
        self._at_checkpoint = message.name
        self._in_page = True
        self._show()

    def _select(self, run_id: str | None) -> None:
        if run_id != self._selected:
            self._selected = run_id
            self._compared = None
            self._source.select(run_id)
        self._show()

    @property
    def selected(self) -> RunView | None:
        """The selected run as last seen."""
        return self._snapshot.run(self._selected) if self._snapshot else None

    def runs_by_name(self) -> list[tuple[str, str, str]]:
        """Id, label and status of every run, for the palette."""
        runs = self._snapshot.runs if self._snapshot else ()
        return [(run.run_id, run.label, run.status) for run in runs]

    def go_to(self, run_id: str) -> None:
        """Select a run."""
        self._select(run_id)

    @property
    def _detail(self) -> RunDetail | None:
        return self._details.get(self._selected or "")

    # -- data out ------------------------------------------------------------------------

    def _show(self) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            return
        self._listing = arrange(snapshot.runs, self._order)
        self._top.show(snapshot.runs_dir, snapshot.runs)
        marks = {
            view.run_id: ink for (view, _), ink in zip(self._overlaid(), RUN_INKS, strict=False)
        }
        marks = {run_id: marks.get(run_id, "muted") for run_id in self._marked}
        self._list.show(self._listing, self._order, self._selected, marks, active=not self._in_page)
        self._welcome.show(self._why_nothing())
        self._arrange()
        self._show_page()

    def _show_page(self) -> None:
        """Hand what is known to the widgets that can be seen, and to no others."""
        view, detail = self.selected, self._detail
        self._head.show(view, detail)
        self._bar.show(self._page, active=self._in_page)
        if self._machine.display and self._snapshot is not None:
            tight = self.size.height < TALL
            self._machine.show(self._snapshot.machine, self._elsewhere(), tight=tight)
        match self._page:
            case "overview":
                self._loss.show(self._overlaid(), self._chart.at_chart(""))
                self._phases.show(view)
                self._ending.show(view)
                self._show_ages()
            case "charts":
                pane = self._focus if self._focused else self._grid
                pane.show(self._overlaid(), self._chart)
            case "dynamics":
                self._dynamics.show(view, detail)
                if self._recent.display and view is not None and detail is not None:
                    first, last = self._dynamics.window
                    recent = ChartState(span=float(last - first) or None, weight=_RECENT_WEIGHT)
                    self._recent.show([(view, detail)], recent)
            case "checkpoints":
                self._show_ages()
            case "events":
                self._events.show(detail)
            case "log":
                self._log_page.show(view, detail)
            case "config":
                self._show_config(detail)
            case _:
                self._samples.show(self._selected or "", _samples(detail))

    def _show_ages(self) -> None:
        """Draw what tells how long ago something was."""
        view, detail, now = self.selected, self._detail, self._clock()
        found = detail.checkpoints if detail else ()
        uploads = detail.uploads if detail else {}
        if self._page == "overview":
            if self._checkpoints.display:
                self._checkpoints.show(found, uploads, now)
            if self._details_page.display:
                self._details_page.show(view, detail, now)
        elif self._page == "checkpoints":
            names = [c.name for c in reversed(found)]
            if self._at_checkpoint not in names:
                self._at_checkpoint = names[0] if names else ""
            marked = self._doomed.get(self._selected or "", set())
            self._checkpoints_page.show(
                detail, self._at_checkpoint, frozenset(marked), now, active=self._in_page
            )

    def _show_config(self, detail: RunDetail | None) -> None:
        if self._compared is not None and self._snapshot is not None:
            views = [self._snapshot.run(run_id) for run_id in self._compared]
            details = [self._details.get(run_id) for run_id in self._compared]
            if all(views) and all(details):
                first, second = (d.config for d in details if d)
                labels = tuple(v.label for v in views if v)
                self._config.compare((labels[0], labels[1]), (first, second))
                return
        self._config.show(detail)

    def _overlaid(self) -> list[tuple[RunView, RunDetail]]:
        """The selected run, then those marked with it, as far as they have been read."""
        if self._snapshot is None:
            return []
        ids = list(dict.fromkeys([self._selected or "", *self._marked]))
        found = []
        for run_id in ids:
            view, detail = self._snapshot.run(run_id), self._details.get(run_id)
            if view is not None and detail is not None:
                found.append((view, detail))
        return found[:MAX_RUNS]

    def _elsewhere(self) -> tuple[tuple[str, str], ...]:
        """Other hosts with runs at work, and what those tell of them."""
        snapshot = self._snapshot
        here = snapshot.machine.host if snapshot and snapshot.machine else ""
        hosts: dict[str, list[str]] = {}
        for run in snapshot.runs if snapshot else ():
            if run.alive and run.host and run.host != here:
                hosts.setdefault(run.host, []).append(run.device)
        return tuple(
            (host, f"{len(runs)} at work" + "".join(f" · {d}" for d in dict.fromkeys(runs) if d))
            for host, runs in hosts.items()
        )

    # -- layout --------------------------------------------------------------------------

    @property
    def _is_too_small(self) -> bool:
        return self.size.width < MIN_WIDTH or self.size.height < MIN_HEIGHT

    def _arrange(self) -> None:
        """Which panes are to be seen."""
        empty = self._snapshot is None or not self._snapshot.runs
        wide, tall = self.size.width >= WIDE, self.size.height >= TALL
        details = wide if self._details_wanted is None else self._details_wanted
        machine = wide and tall if self._machine_wanted is None else self._machine_wanted
        machine = machine and self._snapshot is not None and self._snapshot.machine is not None
        overview, charts = self._page == "overview", self._page == "charts"
        view = self.selected
        screen = self.screen_stack[0]
        screen.set_class(empty or self._is_too_small, "-empty")
        screen.set_class(details, "-details")
        screen.set_class(self.size.width >= BROAD, "-broad")
        # Where there is little room, it goes to what the keys act on.
        screen.set_class(self._in_page and not (overview or wide or tall), "-deep")
        only_details = details and not wide
        shown: dict[Widget, bool] = {
            self._machine: machine,
            self._loss: overview and not only_details,
            self._phases: overview and view is not None and bool(view.phase or view.transitions),
            self._ending: overview and not details and self._ending.says_something(view),
            self._checkpoints: overview and not only_details,
            self._details_page: overview and details,
            self._grid: charts and not self._focused,
            self._focus: charts and self._focused,
            self._recent: tall and self._page == "dynamics",
        }
        shown |= {page: self._page == name for name, page in self._pages_by_name().items()}
        for widget, visible in shown.items():
            if widget.display != visible:
                widget.display = visible

    @on(RunsScreen.Resized)
    def _lay_out_again(self) -> None:
        """A wider screen may hold more, a small one nothing."""
        self._welcome.show(self._why_nothing())
        self._arrange()
        self._show()

    def _why_nothing(self) -> tuple[str, ...]:
        """What is said where there is nothing to show."""
        if self._is_too_small:
            width, height = self.size
            return (
                f"This terminal has {width} by {height} cells.",
                f"{MIN_WIDTH} by {MIN_HEIGHT} are needed, 80 by 24 are good; or use --json.",
            )
        snapshot = self._snapshot
        if snapshot is None:
            return (f"Reading {one_line(self._runs_dir)}…",)
        if snapshot.problem:
            return (snapshot.problem, "It is looked at again and again; nothing needs restarting.")
        return (
            f"No runs in {snapshot.runs_dir} yet.",
            "",
            f"Start one:  trainer train --runs-dir {snapshot.runs_dir}",
            "It appears here by itself.",
        )

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
        """Move the crosshair."""
        self._perform("crosshair_left" if by < 0 else "crosshair_right")

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

    def _remember(self, **changes: Any) -> None:
        """Keep a choice for the next time, without waiting for the disk."""
        file = self._settings_file
        settings = dataclasses.replace(file.settings, **changes)
        if settings == file.settings:
            return
        file.settings = settings

        def save() -> None:
            problem = file.save()
            if problem and not self._leaving.is_set():
                self.call_from_thread(self._tell, problem, "warning")

        threading.Thread(target=save, name="settings", daemon=True).start()

    def _tell(self, text: str, colour: str = "primary") -> None:
        if self._notice_timer is not None:
            self._notice_timer.stop()
        self._notice.show(one_line(text, 400), colour)
        self._notice_timer = self.set_timer(
            _NOTICE_SECONDS[colour], lambda: self._notice.show("", "primary")
        )


def keep_selection(
    selected: str | None, before: tuple[RunView, ...], after: tuple[RunView, ...]
) -> str | None:
    """The run to be selected among `after`: the same one, wherever it is now.

    If it is gone, its nearest neighbour of `before` that is left; if none was selected, the first.
    """
    ids = [r.run_id for r in after]
    if selected in ids or not ids:
        return selected if selected in ids else None
    old = [r.run_id for r in before]
    if selected in old:
        index = old.index(selected)
        left = set(ids)
        for neighbour_id in [*old[index + 1 :], *reversed(old[:index])]:
            if neighbour_id in left:
                return neighbour_id
    return ids[0]


def _samples(detail: RunDetail | None) -> tuple[tuple[str, str], ...]:
    """Heading and text of every sample, the newest first."""
    found = reversed(detail.samples) if detail else ()
    return tuple((_sample_heading(sample), sample.text) for sample in found)


def _sample_heading(sample: SampleView) -> str:
    step = "a sample" if sample.step is None else f"step {sample.step:,}"
    return step if sample.time is None else f"{step} · {format_time(sample.time)}"


__all__ = ["WatchingApp", "keep_selection"]
