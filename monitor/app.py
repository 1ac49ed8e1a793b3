"""The screen: snapshots come in as messages, the app owns the selection, widgets only draw."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.message import Message
from textual.timer import Timer

from monitor.actions.registry import ACTIONS
from monitor.actions.steer import (
    Launcher,
    launch,
    request,
    resume,
    wait_for_answer,
    why_no_request,
    why_not_resumable,
)
from monitor.data.poller import Source
from monitor.data.views import RunDetail, RunView, Snapshot
from monitor.screens.dialogs import ConfirmScreen, HelpScreen
from monitor.theme import NIGHT
from monitor.widgets.bars import KeyBar, Notice, TopBar
from monitor.widgets.chart import Chart
from monitor.widgets.checkpoints import Checkpoints
from monitor.widgets.details import Details
from monitor.widgets.run_head import PhaseLine, RunHead
from monitor.widgets.run_list import RunList
from monitor.widgets.welcome import Welcome
from shared.errors import UserError
from shared.text import one_line

_GRACE = 3.0  # seconds for an orderly way out after a signal
_HANGUP = 1.0  # seconds between looks at whether the terminal is still there
_AGES = 5.0  # seconds between looks at whether an age on the screen has changed
#: Seconds a notice stays, by its colour. The primary one waits to be replaced by its answer.
_NOTICE_SECONDS = {"primary": 60.0, "success": 8.0, "warning": 12.0, "error": 30.0}
_KEPT_DETAILS = 4  # runs shown at once when the selection comes back to them


class MonitorApp(App[None]):
    """Watches the runs that `source` delivers."""

    TITLE = "train-monitor"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012  (App declares it for instances)
        (0, "-narrow"),
        (120, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (32, "-tall"),
    ]
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
            return isinstance(message, MonitorApp.SnapshotTaken)

    class ActDone(Message):
        """An act came to its end: `text` says what became true, or why it did not."""

        def __init__(self, text: str, *, ok: bool) -> None:
            super().__init__()
            self.text = text
            self.ok = ok

    def __init__(
        self,
        source: Source,
        runs_dir: Path,
        *,
        selected: str | None = None,
        clock: Callable[[], float] = time.time,
        launcher: Launcher = launch,
    ) -> None:
        super().__init__()
        self._source = source
        self._runs_dir = runs_dir
        self._clock = clock
        self._launcher = launcher
        self._snapshot: Snapshot | None = None
        self._selected = selected
        self._details: OrderedDict[str, RunDetail] = OrderedDict()
        self._details_wanted: bool | None = None  # None: where there is room
        self._starting: set[str] = set()
        self._leaving = threading.Event()
        self.register_theme(NIGHT)
        self.theme = NIGHT.name
        self._top = TopBar(id="top")
        self._list = RunList(id="runs")
        self._head = RunHead(id="head")
        self._chart = Chart(id="chart")
        self._phases = PhaseLine(id="phases")
        self._checkpoints = Checkpoints(id="checkpoints")
        self._page = Details(id="details")
        self._welcome = Welcome(id="welcome")
        self._notice = Notice(id="notice")
        self._notice_timer: Timer | None = None

    # -- life ----------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Runs beside or above the selected one."""
        yield self._top
        with Container(id="body"):
            yield self._list
            with Vertical(id="run"):
                yield self._head
                yield self._chart
                yield self._phases
                yield self._checkpoints
                yield self._page
        yield self._welcome
        yield KeyBar(ACTIONS, id="keys")
        yield self._notice

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
            what, which = f"{alive[0].label} goes on training", alive[0].label
        else:
            what, which = f"{len(alive)} runs go on training", "RUN"
        again = "train-monitor" + ("" if folder == "runs" else f" --runs-dir {folder}")
        stop = f"trainer stop {which}" + ("" if folder == "runs" else f" --runs-dir {folder}")
        return f"{what}. Watch again: {again}   Stop: {stop}"

    # -- data in -------------------------------------------------------------------------

    @on(SnapshotTaken)
    def _take_snapshot(self, message: SnapshotTaken) -> None:
        old = self._snapshot.runs if self._snapshot else ()
        self._snapshot = message.snapshot
        detail = message.snapshot.detail
        if detail is not None:
            self._details[detail.run_id] = detail
            self._details.move_to_end(detail.run_id)
            while len(self._details) > _KEPT_DETAILS:
                self._details.popitem(last=False)
        keep = keep_selection(self._selected, old, message.snapshot.runs)
        if keep != self._selected:
            self._select(keep)
        else:
            self._show()

    @on(RunList.Chosen)
    def _run_clicked(self, message: RunList.Chosen) -> None:
        self._select(message.run_id)

    def _select(self, run_id: str | None) -> None:
        if run_id != self._selected:
            self._selected = run_id
            self._source.select(run_id)
        self._show()

    @property
    def selected(self) -> RunView | None:
        """The selected run as last seen."""
        return self._snapshot.run(self._selected) if self._snapshot else None

    # -- data out ------------------------------------------------------------------------

    def _show(self) -> None:
        snapshot = self._snapshot
        if snapshot is None:
            return
        view = self.selected
        detail = self._details.get(view.run_id) if view else None
        self._top.show(snapshot.runs_dir, snapshot.runs)
        self._list.show(snapshot.runs, self._selected)
        self._head.show(view)
        self._chart.show(view, detail)
        self._phases.show(view)
        self._welcome.show(_advice(snapshot))
        self._arrange()
        self._show_ages()

    def _show_ages(self) -> None:
        view, now = self.selected, self._clock()
        detail = self._details.get(view.run_id) if view else None
        self._checkpoints.show(detail.checkpoints if detail else (), now)
        self._page.show(view, detail, now)

    def _arrange(self) -> None:
        """Which panes are to be seen."""
        empty = self._snapshot is None or not self._snapshot.runs
        wide = self.size.width >= 120
        details = wide if self._details_wanted is None else self._details_wanted
        screen = self.screen_stack[0]
        screen.set_class(empty, "-empty")
        screen.set_class(details, "-details")

    def on_resize(self) -> None:
        """A wider screen may hold more."""
        self._arrange()

    # -- keys ----------------------------------------------------------------------------

    def _move(self, by: int) -> None:
        runs = self._snapshot.runs if self._snapshot else ()
        if not runs:
            return
        ids = [r.run_id for r in runs]
        index = ids.index(self._selected) if self._selected in ids else 0
        self._select(ids[min(max(0, index + by), len(ids) - 1)])

    def action_next_run(self) -> None:
        """Select the next run."""
        self._move(1)

    def action_previous_run(self) -> None:
        """Select the previous run."""
        self._move(-1)

    def action_first_run(self) -> None:
        """Select the first run."""
        self._move(-(1 << 30))

    def action_last_run(self) -> None:
        """Select the last run."""
        self._move(1 << 30)

    def action_details(self) -> None:
        """Show or hide the details."""
        self._details_wanted = not self.screen_stack[0].has_class("-details")
        self._arrange()

    def action_details_up(self) -> None:
        """Scroll the details up."""
        self._page.scroll_by(-1)

    def action_details_down(self) -> None:
        """Scroll the details down."""
        self._page.scroll_by(1)

    def action_refresh(self) -> None:
        """Read everything again now."""
        self._source.refresh()

    def action_help(self) -> None:
        """Show the keys."""
        self.push_screen(HelpScreen(ACTIONS))

    def action_pause(self) -> None:
        """Pause the selected run, or let it go on."""
        view = self.selected
        if view is not None:
            self._ask(view, "resume" if view.status == "paused" else "pause")

    def action_checkpoint(self) -> None:
        """Have the selected run save a checkpoint."""
        if self.selected is not None:
            self._ask(self.selected, "checkpoint")

    def action_stop(self) -> None:
        """Stop the selected run, after a question."""
        view = self.selected
        if view is None:
            return
        reason = why_no_request(view, "stop")
        if reason:
            self._tell(reason, "warning")
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self._ask(view, "stop")

        self.push_screen(
            ConfirmScreen(
                f"Stop {view.label}?",
                "It saves a checkpoint and ends. R resumes it.",
            ),
            answered,
        )

    def action_resume(self) -> None:
        """Start the selected run again, as a process of its own."""
        view = self.selected
        if view is None:
            return
        reason = why_not_resumable(view)
        if reason:
            self._tell(reason, "warning")
            return
        if view.run_id in self._starting:
            return  # the key was pressed again before the trainer is there
        self._starting.add(view.run_id)
        self._tell(f"Starting {view.label}…")

        def work() -> str:
            try:
                return resume(view, self._launcher)
            finally:
                self._starting.discard(view.run_id)

        self._in_background(work)

    # -- acts ----------------------------------------------------------------------------

    def _ask(self, view: RunView, action: str) -> None:
        reason = why_no_request(view, action)
        if reason:
            self._tell(reason, "warning")
            return
        self._tell(f"Asked {view.label} to {_ASKED[action]}…")

        def work() -> str:
            request_id, tailer = request(view, action)
            return wait_for_answer(view, request_id, tailer, give_up=self._leaving.wait)

        self._in_background(work)

    def _in_background(self, work: Callable[[], str]) -> None:
        """Do `work` in a thread that does not keep us from leaving, and tell its outcome."""

        def run() -> None:
            try:
                text, ok = work(), True
            except (UserError, OSError) as error:
                text, ok = str(error), False
            if text and not self._leaving.is_set():
                self.post_message(self.ActDone(text, ok=ok))

        threading.Thread(target=run, name="act", daemon=True).start()

    @on(ActDone)
    def _act_done(self, message: ActDone) -> None:
        self._tell(message.text, "success" if message.ok else "error")
        self._source.refresh()

    def _tell(self, text: str, colour: str = "primary") -> None:
        if self._notice_timer is not None:
            self._notice_timer.stop()
        self._notice.show(one_line(text, 400), colour)
        self._notice_timer = self.set_timer(
            _NOTICE_SECONDS[colour], lambda: self._notice.show("", "primary")
        )


_ASKED = {
    "pause": "pause",
    "resume": "go on",
    "checkpoint": "save a checkpoint",
    "stop": "save and stop",
}


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
        for neighbour in [*old[index + 1 :], *reversed(old[:index])]:
            if neighbour in left:
                return neighbour
    return ids[0]


def _advice(snapshot: Snapshot) -> tuple[str, ...]:
    if snapshot.problem:
        return (snapshot.problem, "It is looked at again and again; nothing needs restarting.")
    return (
        f"No runs in {snapshot.runs_dir} yet.",
        "",
        f"Start one:  trainer train --runs-dir {snapshot.runs_dir}",
        "It appears here by itself.",
    )
