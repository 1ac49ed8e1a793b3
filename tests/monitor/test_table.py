"""The table of runs in the app: keys, columns, sorting, what is remembered, CSV."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.app import MonitorApp
from monitor.data.outline import Outline
from monitor.data.poller import Poller
from monitor.list_order import ListOrder, arrange
from monitor.look import Look
from monitor.pages.page import Seen
from monitor.pages.table import TablePage
from monitor.settings import SettingsFile
from monitor.table.columns import Column
from monitor.widgets.table import RunTable, TableRows
from shared.run_writer import RunWriter
from tests.monitor.support import NOW, screen_text, snapshot, still_app, until, view, watched

Start = Callable[..., MonitorApp]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Opens the monitor on three small runs, with settings that are kept."""
    for number, (rate, loss) in enumerate(((0.01, 2.0), (0.0001, 1.0), (0.001, 3.0))):
        with RunWriter(tmp_path / "runs", name=f"run{number}", max_steps=20) as writer:
            writer.write_config({"optim": {"learning_rate": rate, "decay": 0.1}})
            writer.log(10 + number, loss=loss, reward=-loss)

    def app() -> MonitorApp:
        source = Poller(tmp_path / "runs")
        settings = SettingsFile(tmp_path / "settings.yaml")
        return MonitorApp(source, tmp_path / "runs", settings=settings)

    return app


def column(app: MonitorApp) -> list[str]:
    """The names of the runs from top to bottom."""
    return [run.name for run in app.listing.runs]


async def opened(pilot: Any, app: MonitorApp) -> None:
    """Show the table, and wait until it has read the settings of all runs."""
    await until(pilot, lambda: len(app.listing.runs) == 3)
    await pilot.press("9")
    await until(pilot, lambda: "learning_rate" in screen_text(app))


async def test_the_settings_that_differ_are_columns_and_any_sorts(start: Start) -> None:
    app = start()
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, app)
        assert "decay" not in screen_text(app), "all runs have the same"
        await pilot.press(*["right"] * 9, "o")
        await until(pilot, lambda: column(app) == ["run1", "run2", "run0"])
        await until(pilot, lambda: "learning_rate▴" in screen_text(app))
        await pilot.press("o")
        await until(pilot, lambda: column(app) == ["run0", "run2", "run1"])
        await pilot.press("g", "j")
        await until(pilot, lambda: app.selected is not None and app.selected.name == "run2")
        await pilot.press("pagedown")
        await until(pilot, lambda: app.selected is not None and app.selected.name == "run1")
        await pilot.press("slash", *"run2", "enter")
        await until(pilot, lambda: column(app) == ["run2"])
        await pilot.press("escape", "enter")
        await until(pilot, lambda: app.look.page == "overview" and len(app.listing.runs) == 3)


async def test_columns_are_chosen_and_remembered(start: Start, tmp_path: Path) -> None:
    app = start()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, app)
        await pilot.press("w")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        for words in ("lowest reward", "decay"):
            field = app.screen.query_one("#line")
            field.value = words  # type: ignore[attr-defined]
            await until(pilot, lambda: len(app.screen.query_one("#names").options) == 1)  # type: ignore[attr-defined]
            await pilot.press("enter")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "min reward" in screen_text(app))
        await until(pilot, lambda: "-3.000" in screen_text(app))
        await pilot.press(*["right"] * 6, "o", "less_than_sign")
        await until(pilot, lambda: column(app) == ["run2", "run0", "run1"])
        specs = app.look.table.columns
        assert specs[-3:] == ("min:reward", "config:optim.learning_rate", "config:optim.decay")
        await until(
            pilot, lambda: SettingsFile(tmp_path / "settings.yaml").settings.columns == specs
        )
    again = start()
    assert again.look.table.columns == specs
    assert again.look.table.sort == "min:reward"


async def test_the_table_is_written_as_csv(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = start()
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, app)
        await pilot.press("e")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await until(pilot, lambda: "runs.csv" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Wrote" in app.notice)
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert {(row["run:loss"], row["config:optim.learning_rate"]) for row in rows} == {
        ("2", "0.01"),
        ("1", "0.0001"),
        ("3", "0.001"),
    }


async def test_marks_groups_and_the_mouse() -> None:
    app, _ = watched(view("a_1", name="a", tags=("one",)), view("b_1", name="b"))
    async with app.run_test(size=(110, 30)) as pilot:
        await until(pilot, lambda: len(app.listing.runs) == 2)
        await pilot.press("9", "space", "O")
        await until(pilot, lambda: "◆" in screen_text(app) and "a · 1" in screen_text(app))
        assert "#one" in screen_text(app)
        await pilot.click(RunTable, offset=(6, 5))
        await until(pilot, lambda: app.selected is not None and app.selected.run_id == "b_1")
        await pilot.click(RunTable, offset=(6, 1))
        await until(pilot, lambda: app.look.table.sort == "name")
        await pilot.press("escape")
        await until(pilot, lambda: app.look.page == "overview")


async def test_a_page_down_is_one_move() -> None:
    app = still_app(*(view(f"run_{number:02}") for number in range(60)))
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: len(app.listing.runs) == 60)
        await pilot.press("9", "g")
        await until(pilot, lambda: app.selected is app.listing.runs[0])
        rows, looks = app.query_one(RunTable).rows, list[str | None]()
        app.watch(app, "look", lambda: looks.append(app.look.selected), init=False)
        await pilot.press("pagedown")
        await until(pilot, lambda: app.selected is app.listing.runs[rows - 1])
        await pilot.press("pageup")
        await until(pilot, lambda: app.selected is app.listing.runs[0])
        assert len(looks) == 2


async def test_the_table_is_drawn_again_only_when_it_looks_different() -> None:
    runs = view("a"), view("b")
    app, source = watched(*runs)
    async with app.run_test(size=(110, 30)) as pilot:
        await until(pilot, lambda: len(app.listing.runs) == 2)
        await pilot.press("9")
        table = app.query_one(RunTable)
        await until(pilot, lambda: table.drawings > 0 and "reading" not in screen_text(app))
        drawings = table.drawings
        for later in range(1, 4):
            again = dataclasses.replace(snapshot(*map(dataclasses.replace, runs)), taken_at=later)
            source.publish(again)
            await until(pilot, lambda again=again: app.snapshot is again)  # type: ignore[misc]
        await pilot.pause()
        assert table.drawings == drawings
        source.publish(snapshot(runs[0], dataclasses.replace(runs[1], step=12_345)))
        await until(pilot, lambda: "12,345" in screen_text(app))
        assert table.drawings > drawings


def test_runs_that_are_not_listed_are_not_waited_for() -> None:
    runs = [*(view(f"r{number}") for number in range(20)), view("old", archived=True)]
    wanted: list[list[str]] = []
    page = TablePage(lambda runs, *, metrics: wanted.append([run.run_id for run in runs]))

    def shown(query: str = "", *, archived: bool = False) -> TableRows:
        order = ListOrder(query=query, show_archived=archived)
        seen = Seen(snapshot(*runs), Look(order=order), {}, NOW, arrange(runs, order))
        page.arranged(seen.listing, seen)
        page.show(seen)
        return page.shown

    assert shown().waiting == 20
    page.take({r.run_id: Outline({"rate": r.run_id}) for r in runs if not r.archived})
    assert shown().waiting == 0
    assert Column("config", "rate") in page.shown.columns, "the setting that differs"
    assert shown("r7").waiting == 0
    assert wanted[-1] == ["r7", *(f"r{number}" for number in range(20) if number != 7)]
    assert shown(archived=True).waiting == 1
    assert wanted[-1][-1] == "old"
