"""The app: takes snapshots in, and gives keys, clicks and messages to who answers for them.

It owns two values: the newest `snapshot` and the `look` at it. Whatever sets one of them is shown.
What keys do is in `monitor.controllers`, what a page shows in `monitor.pages`.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import RenderableType
from rich.text import Text
from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.reactive import var
from textual.screen import Screen

from monitor.actions.deeds import Deeds, Here
from monitor.actions.registry import ACTIONS
from monitor.actions.steer import Launcher, launch
from monitor.background import ActDone, run_act
from monitor.controllers.charts import Charts
from monitor.controllers.checkpoints import CheckpointCare, UploadDone, Verified
from monitor.controllers.export import Export
from monitor.controllers.filtering import Filtering
from monitor.controllers.host import Acts, Answer
from monitor.controllers.moving import Moving
from monitor.controllers.order import CommandFound, Order
from monitor.controllers.program import ProgramKeys
from monitor.controllers.runs import Runs
from monitor.controllers.steering import Steering
from monitor.controllers.table import Table
from monitor.data.outliner import Outliner
from monitor.data.poller import Source
from monitor.data.views import RunDetail, RunView, Snapshot
from monitor.driver import TerminalDriver
from monitor.frame import Frame
from monitor.layout import TALL, WIDE, Layout
from monitor.leaving import HANGUP, Leaving, farewell, fault
from monitor.list_order import Listing, arrange
from monitor.look import TABLE, Look
from monitor.pages.all_pages import make_pages
from monitor.pages.page import PageController, Seen
from monitor.plots.curves import CurveStore, series_of
from monitor.remembering import NotSaved, Remembering
from monitor.screens.runs_screen import RunsScreen
from monitor.settings import Settings, SettingsFile
from monitor.theme import THEMES
from monitor.watcher import OutlinesRead, SnapshotTaken, Watcher, only_machine_differs
from monitor.widgets.answers_page import AnswerList
from monitor.widgets.bars import Prompt
from monitor.widgets.chart_grid import ChartGrid
from monitor.widgets.chart_pane import ChartMoved
from monitor.widgets.checkpoints import CheckpointsPage as CheckpointLines
from monitor.widgets.page_bar import PageBar
from monitor.widgets.run_list import RunList
from monitor.widgets.table import RunTable
from shared.errors import ExitCode
from shared.text import one_line

if TYPE_CHECKING:
    from textual.command import Provider

    from shared.remote.watching import RemoteRuns

_NEED_A_RUN = frozenset(action.name for action in ACTIONS if action.needs_run)
_WRITE = frozenset(action.name for action in ACTIONS if action.writes)
_AGES = 5.0  # seconds after which an age on the screen may have changed


def _action_provider() -> type[Provider]:
    from monitor.screens.palette import ActionProvider

    return ActionProvider


class MonitorApp(App[None]):
    """Watches the runs that `source` delivers, and acts on them."""

    TITLE = "train-monitor"
    CSS_PATH = "app.tcss"
    COMMANDS = {_action_provider}  # noqa: RUF012
    ALLOW_SELECT = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (TALL, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(",".join(a.keys), a.call, a.help, show=False) for a in ACTIONS
    ]

    snapshot: var[Snapshot | None] = var(None, init=False, always_update=True)
    look: var[Look] = var(Look(), init=False)

    def __init__(
        self,
        source: Source,
        runs_dir: Path,
        *,
        selected: str | None = None,
        clock: Callable[[], float] = time.time,
        launcher: Launcher = launch,
        settings: SettingsFile | None = None,
        theme: str = "",
        ascii: bool = False,
        driver: type[Driver] | None = None,
        elsewhere: RemoteRuns | None = None,
    ) -> None:
        """`theme` overrides that of the settings, for a terminal that has no such colours.

        `ascii` is for one that has no braille, `driver` for what is no terminal, such as a browser.
        `elsewhere` are the hosts of the runs, which `runs_dir` is only a copy of.
        """
        file = settings or SettingsFile(None)
        kept = file.settings
        name = theme or kept.theme
        super().__init__(driver or TerminalDriver, ansi_color=True if THEMES[name].ansi else None)
        for one in THEMES.values():
            self.register_theme(one)
        self.theme = name
        self.runs_dir, self.clock = runs_dir, clock
        self._elsewhere = elsewhere
        self.listing = Listing()
        self.set_reactive(MonitorApp.look, Look.remembered(kept, selected))
        self._remembering = Remembering(file, self.run_worker, self.post_message)
        self._leaving = Leaving(lambda code: self.exit(return_code=code))
        self.deeds = self._acting(launcher)
        self._watcher = Watcher(source, self.post_message)
        self._frame = Frame()
        store = CurveStore()
        self._outliner = Outliner(lambda found: self.post_message(OutlinesRead(found)))
        made = make_pages(store, self._outliner.want, ascii=ascii)
        self.pages: Mapping[str, PageController] = made.by_name
        self._table, self._samples = made.table, made.samples
        self._moving = Moving(self)
        self._runs = Runs(self)
        self._filtering = Filtering(self, self._frame.prompt, self._frame.keys, made.charts)
        self._charts = Charts(self, made.charts, store)
        self._care = CheckpointCare(self, made.checkpoints)
        self._order = Order(self)
        acts: Acts = {
            **self._moving.acts(),
            **self._runs.acts(),
            **self._filtering.acts(),
            **self._charts.acts(),
            **Steering(self).acts(),
            **self._care.acts(),
            **self._order.acts(),
            **Export(self, made.overview.loss).acts(),
            **ProgramKeys(self, self._remembering.keep).acts(),
        }
        self._table_keys = Table(self, self._table, acts, self._moving.move)
        self.acts: Acts = {**acts, **self._table_keys.acts()}

    def _acting(self, launcher: Launcher) -> Deeds:
        """Who does what the keys ask for."""
        if self._elsewhere is None:
            return Here(self.runs_dir, launcher)
        from monitor.actions.elsewhere import Elsewhere

        return Elsewhere(self._elsewhere, self._leaving.begun)

    # -- life ----------------------------------------------------------------------------

    def get_default_screen(self) -> Screen[Any]:
        """The screen with the runs."""
        return RunsScreen(id="_default")

    def compose(self) -> ComposeResult:
        """The frame with all pages in it, of which one is displayed."""
        widgets = [widget for page in self.pages.values() for widget in page.widgets()]
        yield from self._frame.compose(widgets)

    def on_load(self) -> None:
        """Signals must find their handlers before the terminal is taken over."""
        self._leaving.handle_signals()

    def on_mount(self) -> None:
        """Begin to watch."""
        self._arrange()
        self._watcher.start(self.look.selected)
        self.set_interval(_AGES, self._show_ages)
        if not self.is_headless:
            self.set_interval(HANGUP, self._leaving.check_terminal)
        if self._remembering.problem:
            self.tell(self._remembering.problem, "warning")

    def on_unmount(self) -> None:
        """Let waiting threads go; training goes on without us."""
        self._leaving.begun.set()
        self._care.leave()
        self._outliner.stop()
        self._watcher.stop()
        if self.is_headless:
            self._leaving.release_signals()

    def panic(self, *renderables: RenderableType) -> None:
        """End with an error, and with an exit code that says so."""
        self._return_code = self._return_code or ExitCode.FAILURE
        super().panic(*renderables)

    def _fatal_error(self) -> None:
        """A few lines instead of pages that show every variable, and so what is in files."""
        error = sys.exception()
        told = [Text("\n".join(fault(error)), overflow="fold")] if error else []
        self.panic(*told)

    def farewell(self) -> str:
        """What to know on leaving while runs train; empty if none does."""
        return farewell(self.snapshot.runs if self.snapshot else (), self.runs_dir)

    # -- what can be known of it ---------------------------------------------------------

    @property
    def selected(self) -> RunView | None:
        """The selected run as last seen."""
        return self._seen().view

    @property
    def detail(self) -> RunDetail | None:
        """What was read of it."""
        return self._seen().detail

    @property
    def overlaid(self) -> list[tuple[RunView, RunDetail]]:
        """The runs on the charts, as far as they have been read."""
        return self._seen().overlaid

    @property
    def page(self) -> PageController:
        """The present page."""
        return self.pages[self.look.page]

    @property
    def layout(self) -> Layout:
        """Which panes are shown."""
        return Layout.fitting(*self.size, self.look, self.snapshot)

    @property
    def settings(self) -> Settings:
        """The choices that are remembered."""
        return self._remembering.settings

    @property
    def notice(self) -> str:
        """What is said above the keys."""
        return self._frame.notice.text

    @property
    def is_filtering(self) -> bool:
        """Whether a filter is being typed."""
        return self._frame.prompt.is_open

    @property
    def gone(self) -> threading.Event:
        """Set once nobody looks at the screen any more."""
        return self._leaving.begun

    def runs_by_name(self) -> list[tuple[str, str, str]]:
        """Id, label and status of every run, for the palette."""
        runs = self.snapshot.runs if self.snapshot else ()
        return [(run.run_id, run.label, run.status) for run in runs]

    def go_to(self, run_id: str) -> None:
        """Select a run, and list it."""
        if all(run.run_id != run_id for run in self.listing.runs):
            self.look = self.look.ordered(query="")
        self._moving.go_to_run(run_id)

    def metrics_by_name(self) -> list[str]:
        """Every metric of the runs on the charts, for the palette."""
        return list(dict.fromkeys(key for _, one in self.overlaid for key in series_of(one)))

    def go_to_metric(self, key: str) -> None:
        """Show the chart of a metric."""
        self._charts.go_to(key)

    def _seen(self) -> Seen:
        look = self.look
        if self.listing.filtered and not self.listing.runs:
            # Nothing matches the filter: there is nothing that a key could act on.
            look = dataclasses.replace(look, selected=None, marked=(), compared=None)
        return Seen(self.snapshot, look, self._watcher.details, self.clock(), self.listing)

    # -- data in -------------------------------------------------------------------------

    @on(SnapshotTaken)
    def _take_snapshot(self, message: SnapshotTaken) -> None:
        self._watcher.remember(message.snapshot, len(self.look.marked))
        self.snapshot = message.snapshot

    def watch_snapshot(self, before: Snapshot | None, snapshot: Snapshot) -> None:
        """Show new data."""
        if snapshot.problem != (before.problem if before else ""):
            self._tell_problem(snapshot)
        if snapshot.notice and snapshot.notice != (before.notice if before else ""):
            self.tell(snapshot.notice, "warning")
        if before is not None and only_machine_differs(before, snapshot):
            self._frame.show_machine(self._seen(), self.layout)
            return
        look = self.look.settled(before.runs if before else (), snapshot.runs)
        if look == self.look:
            self._show()
        else:
            self.look = look  # which is shown

    def _tell_problem(self, snapshot: Snapshot) -> None:
        """Say what is wrong, unless it takes the place of the runs; or that all links are up."""
        if snapshot.problem and (self._elsewhere is not None or snapshot.runs):
            self.tell(snapshot.problem, "warning")
        elif not snapshot.problem and self._elsewhere is not None:
            self.tell("Connected again.", "success")

    def watch_look(self, before: Look, look: Look) -> None:
        """Show what is looked at now, and keep what is a choice."""
        if look.selected != before.selected:
            self._watcher.select(look.selected)
        if look.followed != before.followed:
            self._watcher.follow(look.followed)
        self._remembering.keep(look.kept_in(self.settings))
        if dataclasses.replace(look, chart=before.chart) == before:
            self.show_page()
        else:
            self._show()

    @on(ChartMoved)
    def _chart_moved(self, message: ChartMoved) -> None:
        chart = self.page.chart_after(message.state, self.look.chart)
        self.look = dataclasses.replace(self.look, chart=chart)

    @on(RunList.Chosen)
    def _run_clicked(self, message: RunList.Chosen) -> None:
        self._moving.go_to_run(message.run_id, in_list=True)

    @on(RunList.SortChosen)
    def _heading_clicked(self, message: RunList.SortChosen) -> None:
        self._runs.sort(message.sort)

    @on(RunTable.Chosen)
    def _table_clicked(self, message: RunTable.Chosen) -> None:
        self._moving.go_to_run(message.run_id)

    @on(RunTable.SortChosen)
    def _title_clicked(self, message: RunTable.SortChosen) -> None:
        self._table_keys.sort_at(message.column)

    @on(OutlinesRead)
    def _outlines_read(self, message: OutlinesRead) -> None:
        self._table.take(message.outlines)
        if self.look.page == TABLE and not self.gone.is_set():
            self._show()

    @on(PageBar.Chosen)
    def _page_clicked(self, message: PageBar.Chosen) -> None:
        self._moving.go_to_page(message.page)

    @on(ChartGrid.Opened)
    def _chart_opened(self, message: ChartGrid.Opened) -> None:
        self._moving.open_chart(message.key)

    @on(ChartGrid.FoldRefused)
    def _fold_refused(self) -> None:
        self._charts.refuse_fold()

    @on(AnswerList.Clicked)
    def _answer_clicked(self, message: AnswerList.Clicked) -> None:
        self.look = dataclasses.replace(self.look, in_page=True)
        self._samples.go_to(message.index)

    @on(CheckpointLines.Clicked)
    def _checkpoint_clicked(self, message: CheckpointLines.Clicked) -> None:
        self._care.point_at(message.name)

    @on(Prompt.Changed)
    def _filter_typed(self, message: Prompt.Changed) -> None:
        message.stop()
        self._filtering.typed(message.text)

    @on(Prompt.Closed)
    def _filter_closed(self, message: Prompt.Closed) -> None:
        message.stop()
        self.set_focus(None)
        self._filtering.closed(message.text)

    @on(Verified)
    def _checkpoint_verified(self, message: Verified) -> None:
        self._care.verified(message)

    @on(CommandFound)
    def _command_found(self, message: CommandFound) -> None:
        self._order.copied(message)

    @on(UploadDone)
    def _upload_done(self, message: UploadDone) -> None:
        self._care.uploaded(message)

    async def on_event(self, event: events.Event) -> None:
        """Keys that were on their way when the filter was opened belong to it."""
        if not self._filtering.takes(event):
            await super().on_event(event)

    def action_act(self, name: str) -> None:
        """Do what an action of the registry does."""
        if name in _NEED_A_RUN and self.selected is None:
            self.tell(
                "No run is listed, so there is none to act on; Esc clears the filter."
                if self.listing.filtered
                else "No run is selected.",
                "warning",
            )
            return
        view = self.selected
        if name in _WRITE and view is not None and view.foreign is not None:
            self.tell(
                f"{view.label} is another program's ({view.foreign.format}): it is only "
                "watched. `trainer runs import` makes a run of it.",
                "warning",
            )
            return
        if why := self.deeds.why_not(view, name):
            self.tell(why, "warning")
            return
        self.acts[name]()

    # -- data out ------------------------------------------------------------------------

    @on(RunsScreen.Resized)
    def _show(self) -> None:
        """Show all of it. A wider screen may hold more, a small one nothing."""
        if not self.screen_stack:
            return  # a message that came while the app was leaving
        if self.snapshot is not None:
            listing = arrange(self.snapshot.runs, self.look.order)
            self.listing = self.page.arranged(listing, self._seen())
        seen, layout = self._seen(), self.layout
        self._frame.welcome(seen.snapshot, self.runs_dir, layout)
        self._frame.show(seen, self.listing)
        self._arrange()
        self.show_page()

    def show_page(self) -> None:
        """Show the present page, and hand nothing to the others."""
        if self.snapshot is not None and self.screen_stack:
            seen = self._seen()
            self._frame.show_run(seen, self.layout)
            self.page.show(seen)

    def _show_ages(self) -> None:
        if not self.screen_stack:
            return
        self.page.show_ages(self._seen())

    def _arrange(self) -> None:
        """Show the panes that are wanted and that there is room for."""
        seen, layout = self._seen(), self.layout
        for name, wanted in layout.classes().items():
            self.screen_stack[0].set_class(wanted, name)
        shown = {w: False for page in self.pages.values() for w in page.widgets()}
        shown |= self.page.panes(seen, layout)
        shown[self._frame.machine] = layout.machine
        for widget, visible in shown.items():
            if widget.display != visible:
                widget.display = visible

    # -- what controllers ask of it ------------------------------------------------------

    def refresh_runs(self) -> None:
        """Read everything again now."""
        self._watcher.refresh()

    def tell(self, text: str, colour: str = "primary") -> None:
        """Say something above the keys for a while."""
        self._frame.notice.tell(one_line(text, 400), colour)

    def open_dialog(
        self, screen: Screen[Answer], answered: Callable[[Answer | None], None] | None = None
    ) -> None:
        """Show a dialog; `answered` gets what it was closed with."""
        self.push_screen(screen, answered)

    def act(self, work: Callable[[], str]) -> None:
        """Do `work` in the background and tell the text it returns, or the error it raises."""
        self.run_worker(run_act(work, self.post_message, self.gone), group="acts")

    @on(ActDone)
    def _act_done(self, message: ActDone) -> None:
        self.tell(message.text, "success" if message.ok else "error")
        self.refresh_runs()

    @on(NotSaved)
    def _not_saved(self, message: NotSaved) -> None:
        self.tell(message.problem, "warning")

    @on(Driver.SignalResume)
    def _resumed(self) -> None:
        self.refresh_runs()
        self.screen.refresh(layout=True)
