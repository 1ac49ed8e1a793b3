"""Watching: snapshots come in as messages, the app owns what is shown, widgets only draw.

What keys and clicks change of it is in `monitor.looking`; what changes a run, in `monitor.app`.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from monitor.actions.registry import ACTIONS
from monitor.chart.terminal import MIN_HEIGHT, MIN_WIDTH
from monitor.chart_state import ChartState
from monitor.data.poller import Source
from monitor.data.views import RunDetail, RunView, SampleView, Snapshot
from monitor.leaving import HANGUP, LeavingApp
from monitor.list_order import Listing, ListOrder, arrange, keep_selection
from monitor.plots.curves import CurveStore
from monitor.plots.scene import MAX_RUNS, RUN_INKS
from monitor.settings import SettingsFile
from monitor.theme import THEMES
from monitor.widgets.bars import KeyBar, Notice, Prompt, TopBar
from monitor.widgets.chart_focus import ChartFocus
from monitor.widgets.chart_grid import ChartGrid
from monitor.widgets.chart_pane import ChartMoved
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

WIDE, TALL = 120, 32  # cells from which runs and page lie side by side, and there is room for more

BROAD = 180  # cells from which the list gets a larger share

_AGES = 5.0  # seconds between looks at whether an age on the screen has changed
#: Seconds a notice stays, by its colour. The primary one waits to be replaced by its answer.
_NOTICE_SECONDS = {"primary": 60.0, "success": 8.0, "warning": 12.0, "error": 30.0}
_KEPT_DETAILS = 4  # runs shown at once when the selection comes back to them
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


class WatchingApp(LeavingApp):
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
        ascii: bool = False,
    ) -> None:
        """`theme` overrides that of the settings, for a terminal that has no such colours.

        `ascii` is for one that has no braille.
        """
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
        #: Whether checkpoints whose every byte was read here were sound, by place and making.
        self._verified: dict[tuple[Path, float], bool] = {}
        for one in THEMES.values():
            self.register_theme(one)
        self.theme = name
        self._build(ascii=ascii)

    def _build(self, *, ascii: bool) -> None:
        store = CurveStore()
        self._top = TopBar(id="top")
        self._list = RunList(id="runs")
        self._machine = MachinePanel(id="machine")
        self._head = RunHead(id="head")
        self._bar = PageBar(id="pages")
        self._loss = ChartFocus(id="chart", store=store, ascii=ascii)
        self._phases = PhaseLine(id="phases")
        self._ending = Ending(id="ending")
        self._checkpoints = Checkpoints(id="checkpoints")
        self._details_page = Details(id="details")
        self._grid = ChartGrid(id="grid", store=store, ascii=ascii)
        self._focus = ChartFocus(id="focus", store=store, ascii=ascii)
        self._dynamics = DynamicsPage(id="dynamics")
        self._recent = ChartFocus(id="recent", store=store, ascii=ascii)
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

    def on_mount(self) -> None:
        """Begin to look."""
        self._arrange()
        self._source.start(self._publish)
        if self._selected is not None:
            self._source.select(self._selected)
        self.set_interval(_AGES, self._show_ages)
        if not self.is_headless:
            self.set_interval(HANGUP, self._check_terminal)
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
        before, snapshot = self._snapshot, message.snapshot
        old = before.runs if before else ()
        self._snapshot = snapshot
        if before is not None and _differ_in_machine(before, snapshot):
            self._show_machine()
            return
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
        self._show_machine()
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

    def _show_machine(self) -> None:
        if self._machine.display and self._snapshot is not None:
            tight = self.size.height < TALL
            self._machine.show(self._snapshot.machine, self._elsewhere(), tight=tight)

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
            verified = {
                c.name: self._verified[key]
                for c in found
                if (key := (c.path, c.created_at)) in self._verified
            }
            self._checkpoints_page.show(
                detail,
                self._at_checkpoint,
                frozenset(marked),
                now,
                verified=verified,
                active=self._in_page,
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


def _differ_in_machine(old: Snapshot, new: Snapshot) -> bool:
    """Whether all else is the same, so that a machine that works need not redraw everything."""
    return (
        old.runs is new.runs
        and old.problem == new.problem
        and old.machine is not None
        and new.machine is not None
        and old.details.keys() == new.details.keys()
        and all(old.details[run_id] is detail for run_id, detail in new.details.items())
        and old.detail is new.detail
    )


def _samples(detail: RunDetail | None) -> tuple[tuple[str, str], ...]:
    """Heading and text of every sample, the newest first."""
    found = reversed(detail.samples) if detail else ()
    return tuple((_sample_heading(sample), sample.text) for sample in found)


def _sample_heading(sample: SampleView) -> str:
    step = "a sample" if sample.step is None else f"step {sample.step:,}"
    return step if sample.time is None else f"{step} · {format_time(sample.time)}"
