"""The frame around the pages: list of runs, head, machine, keys, notices."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.widget import Widget

from monitor.actions.registry import ACTIONS
from monitor.chart.terminal import MIN_HEIGHT, MIN_WIDTH
from monitor.data.views import Snapshot
from monitor.layout import Layout
from monitor.list_order import Listing
from monitor.pages.page import Seen
from monitor.reinforcement import has_rewards
from monitor.widgets.bars import KeyBar, Notice, Prompt, TopBar
from monitor.widgets.machine_panel import MachinePanel
from monitor.widgets.page_bar import PageBar
from monitor.widgets.run_head import RunHead
from monitor.widgets.run_list import RunList
from monitor.widgets.welcome import Welcome
from shared.text import one_line


class Frame:
    """What is on the screen beside the present page."""

    def __init__(self) -> None:
        self.runs = RunList(id="runs")
        self.machine = MachinePanel(id="machine")
        self.prompt = Prompt(id="prompt")
        self.keys = KeyBar(ACTIONS, id="keys")
        self.notice = Notice(id="notice")
        self._top = TopBar(id="top")
        self._head = RunHead(id="head")
        self._bar = PageBar(id="pages")
        self._welcome = Welcome(id="welcome")

    def compose(self, pages: Iterable[Widget]) -> ComposeResult:
        """Runs beside or above the selected one."""
        yield self._top
        with Container(id="body"):
            with Vertical(id="side"):
                yield self.runs
                yield self.machine
            with Vertical(id="run"):
                yield self._head
                yield self._bar
                yield from pages
        yield self._welcome
        yield self.prompt
        yield self.keys
        yield self.notice

    def show(self, seen: Seen, listing: Listing) -> None:
        """Show all runs."""
        look, snapshot = seen.look, seen.snapshot
        if snapshot is None:
            return
        self._top.show(snapshot.runs_dir, snapshot.runs)
        active = not look.in_page
        self.runs.show(listing, look.order, look.selected, seen.marks, active=active)

    def show_run(self, seen: Seen, layout: Layout) -> None:
        """Show what the selected run does, and which page of it is shown."""
        self._head.show(seen.view, seen.detail)
        rewards = has_rewards(seen.detail)
        self._bar.show(seen.look.page, active=seen.look.in_page, rewards=rewards)
        self.show_machine(seen, layout)

    def show_machine(self, seen: Seen, layout: Layout) -> None:
        """Show how busy the machine is."""
        if self.machine.display and seen.snapshot is not None:
            elsewhere = _elsewhere(seen.snapshot)
            self.machine.show(seen.snapshot.machine, elsewhere, tight=not layout.is_tall)

    def welcome(self, snapshot: Snapshot | None, runs_dir: Path, layout: Layout) -> None:
        """Say why there is nothing to show, for where there is nothing."""
        self._welcome.show(_why_nothing(snapshot, runs_dir, layout))


def _elsewhere(snapshot: Snapshot) -> tuple[tuple[str, str], ...]:
    """Other hosts on which runs train, and their devices."""
    here = snapshot.machine.host if snapshot.machine else ""
    hosts: dict[str, list[str]] = {}
    for run in snapshot.runs:
        if run.alive and run.host and run.host != here:
            hosts.setdefault(run.host, []).append(run.device)
    return tuple(
        (host, f"{len(runs)} training" + "".join(f" · {d}" for d in dict.fromkeys(runs) if d))
        for host, runs in hosts.items()
    )


def _why_nothing(snapshot: Snapshot | None, runs_dir: Path, layout: Layout) -> tuple[str, ...]:
    if layout.is_too_small:
        return (
            f"This terminal has {layout.width} by {layout.height} cells.",
            f"It needs at least {MIN_WIDTH} by {MIN_HEIGHT}, better 80 by 24; or use --json.",
        )
    if snapshot is None:
        return (f"Reading {one_line(runs_dir)}…",)
    if snapshot.problem:
        return (snapshot.problem, "Retrying; there is no need to restart.")
    return (
        f"No runs in {snapshot.runs_dir} yet.",
        "",
        f"Start one:  trainer train --runs-dir {shlex.quote(snapshot.runs_dir)}",
        "It will appear here.",
    )
