"""The table of runs in the app: keys, columns, sorting, what is remembered, CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.app import MonitorApp
from monitor.data.poller import Poller
from monitor.settings import SettingsFile
from monitor.widgets.table import RunTable
from shared.run_writer import RunWriter
from tests.monitor.support import screen_text, until, view, watched

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
            field = app.screen.query_one("#filter")
            field.value = words  # type: ignore[attr-defined]
            await until(pilot, lambda: len(app.screen.query_one("#columns").options) == 1)  # type: ignore[attr-defined]
            await pilot.press("enter")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "min reward" in screen_text(app))
        await until(pilot, lambda: "-3.000" in screen_text(app))
        await pilot.press(*["right"] * 6, "o", "less_than_sign")
        await until(pilot, lambda: column(app) == ["run2", "run0", "run1"])
        specs = app.look.table.columns
        assert specs[-3:] == ("min:reward", "config:optim.learning_rate", "config:optim.decay")
        await until(pilot, lambda: "min:reward" in (tmp_path / "settings.yaml").read_text())
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
