"""How it looks, kept as SVG. After a wanted change: pytest --snapshot-update."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_textual_snapshot import SVGImageExtension
from textual.command import CommandList, CommandPalette
from textual.screen import Screen
from textual.widgets import Input, TextArea

from monitor.app import MonitorApp
from monitor.data.machine import DiskView, GpuView, HostView, MachineView
from monitor.data.views import RunDetail, RunView
from monitor.screens.dialog_box import Dialog
from monitor.widgets.chart_grid import ChartGrid
from tests.monitor import support
from tests.monitor.dialogs import DIALOGS
from tests.monitor.support import NOW, StillSource, series, still_app, until

Showcase = tuple[tuple[RunView, ...], RunDetail]
Compare = Callable[..., bool]

SIZES = ((80, 24), (120, 40), (200, 50))
MACHINE = MachineView(
    "box",
    HostView(0.42, 16, 30 << 30, 128 << 30),
    DiskView(50 << 30, 1000 << 30),
    (GpuView(0, "NVIDIA H200", 0.97, 130 << 30, 141 << 30, 71, 640.0, 700.0),),
)


async def _settled(pilot: Any) -> None:
    await pilot.pause()
    await pilot.pause()


def monitor(showcase: Showcase, theme: str = "", **options: Any) -> MonitorApp:
    """The app on the showcase, with more metrics and a machine."""
    runs, detail = showcase
    steps = np.arange(4000)
    more = {
        "loss": detail.loss,
        "val_loss": detail.val_loss,
        "gradient_norm": series("gradient_norm", 0.8 + 0.3 * np.sin(steps / 90)),
        "learning_rate": series("learning_rate", 3e-4 * np.minimum(1, steps / 300)),
        "tokens_per_second": series("tokens_per_second", 3.4e5 + 1e4 * np.cos(steps / 40)),
    }
    rich = dataclasses.replace(detail, series=more)
    source = StillSource(support.snapshot(*runs, detail=rich, machine=MACHINE))
    return MonitorApp(source, Path("runs"), clock=lambda: NOW, theme=theme, **options)


@pytest.mark.parametrize(
    ("size", "theme"),
    [(size, "night") for size in SIZES]
    + [((120, 40), theme) for theme in ("day", "clear", "sixteen", "mono")],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}x{value[1]}",
)
def test_overview(
    snap_compare: Compare, showcase: Showcase, size: tuple[int, int], theme: str
) -> None:
    app = monitor(showcase, theme)
    assert snap_compare(app, terminal_size=size, run_before=_settled)


#: Keys that lead from any page to this one.
PAGES = {
    "charts": ["2"],
    "dynamics": ["3"],
    "checkpoints": ["4"],
    "events": ["5"],
    "log": ["6"],
    "config": ["7"],
    "samples": ["8"],
}


@contextlib.asynccontextmanager
async def pictured(
    showcase: Showcase, snapshot: Any, theme: str, size: tuple[int, int]
) -> AsyncIterator[tuple[MonitorApp, Any, Callable[[str], None]]]:
    """One app, its pilot, and what keeps the screen under a name; what differs is told at the end.

    Many pictures of one app take a fraction of the time of as many apps.
    """
    kept = snapshot.use_extension(SVGImageExtension)
    app, different = monitor(showcase, theme), []

    def keep(name: str) -> None:
        if app.export_screenshot(simplify=True) != kept(name=name):
            different.append(name)

    async with app.run_test(size=size) as pilot:
        await _settled(pilot)
        yield app, pilot, keep
    assert not different


@pytest.mark.parametrize(
    ("size", "theme"),
    [((80, 24), "night"), ((200, 50), "day")],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}x{value[1]}",
)
async def test_pages(snapshot: Any, showcase: Showcase, size: tuple[int, int], theme: str) -> None:
    async with pictured(showcase, snapshot, theme, size) as (app, pilot, keep):
        for name, keys in PAGES.items():
            await pilot.press(*keys)
            await until(
                pilot,
                lambda: not app.query_one(ChartGrid).display or app.query_one(ChartGrid).is_settled,
            )
            await _settled(pilot)
            keep(name)


@pytest.mark.parametrize("theme", ["night", "sixteen", "mono"])  # their contrast has a test
async def test_dialogs(
    snapshot: Any, showcase: Showcase, theme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if theme == "mono":
        monkeypatch.setenv("NO_COLOR", "1")
    async with pictured(showcase, snapshot, theme, (80, 24)) as (app, pilot, keep):
        for name, make in DIALOGS.items():
            dialog = make(tmp_path)
            app.push_screen(dialog)
            # Work in a thread has come back, and no cursor is caught between two blinks.
            await until(
                pilot, lambda d=dialog: d.is_mounted and not getattr(d, "is_working", False)
            )
            _hold_cursors(dialog)
            await _settled(pilot)
            keep(name)
            app.pop_screen()
            await _settled(pilot)
        app.action_command_palette()
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await until(pilot, lambda: [x.highlighted for x in app.screen.query(CommandList)] == [0])
        await until(pilot, lambda: not app.screen.query("CommandList.--populating"))
        _hold_cursors(app.screen)
        await _settled(pilot)
        keep("palette")


def _is_working(screen: Screen[Any]) -> bool:
    return isinstance(screen, Dialog) and screen.is_working


def _hold_cursors(screen: Screen[Any]) -> None:
    for field in screen.query(Input):
        field.cursor_blink = False
    for area in screen.query(TextArea):
        area.cursor_blink = False


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("focus", ["2", "enter", "plus", "right_square_bracket", "comma"]),
        ("checkpoints", ["4", "j", "space"]),
        ("details", ["d"]),
        ("machine", ["m"]),
        ("grouped_and_sorted", ["o", "o", "O"]),
        ("a_failed_run", ["j", "j", "j"]),
        ("details_of_a_failed_run", ["j", "j", "j", "d"]),
        ("a_refusal", ["R"]),
    ],
)
def test_page(snap_compare: Compare, showcase: Showcase, name: str, keys: list[str]) -> None:
    async def press(pilot: Any) -> None:
        await _settled(pilot)
        for key in keys:
            await pilot.press(key)
        await _settled(pilot)

    assert snap_compare(monitor(showcase), terminal_size=(80, 24), run_before=press)


def test_no_colour(
    snap_compare: Compare, showcase: Showcase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = monitor(showcase, "mono")
    assert snap_compare(app, terminal_size=(80, 24), run_before=_settled)


@pytest.mark.parametrize("size", [(40, 12), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_nothing_to_show(snap_compare: Compare, size: tuple[int, int]) -> None:
    assert snap_compare(still_app(), terminal_size=size, run_before=_settled)


def test_a_folder_that_cannot_be_read(snap_compare: Compare) -> None:
    source = StillSource(support.snapshot(problem="runs cannot be read: Permission denied"))
    app = MonitorApp(source, Path("runs"), clock=lambda: NOW)
    assert snap_compare(app, terminal_size=(80, 24), run_before=_settled)
