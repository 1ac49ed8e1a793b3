"""Keys that act, from the key to the files of a real run directory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from monitor.app import MonitorApp
from monitor.data.poller import Poller
from shared.library.labels import read_labels
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from tests.monitor.actions.making import checkpointed_run, names, save_checkpoint
from tests.monitor.support import screen_text, until, write_run

SIZE = (120, 40)


@contextlib.asynccontextmanager
async def watching(run: RunDirectory) -> AsyncIterator[tuple[MonitorApp, Any]]:
    """The app on the folder of `run`, which it has read."""
    folder = run.path.parent
    app = MonitorApp(Poller(folder, 0.1), folder)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: bool(app.detail and app.detail.checkpoints))
        yield app, pilot


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return checkpointed_run(tmp_path / "runs")


async def test_marked_checkpoints_are_pruned_and_come_back(run: RunDirectory) -> None:
    before = names(run)
    async with watching(run) as (app, pilot):
        await pilot.press("4", "j", "j")
        await until(pilot, lambda: app.pages["checkpoints"].cursor == "step_400")
        await pilot.press("space", "space")
        assert app.pages["checkpoints"].marked(run.run_id) == {"step_400", "step_300"}
        await until(pilot, lambda: "2 of 6 marked" in screen_text(app))
        await pilot.press("P")
        await until(pilot, lambda: "2 checkpoints (6 files" in screen_text(app))
        assert names(run) == before, "a preview touches nothing"
        await pilot.press("enter")
        await until(pilot, lambda: "to the trash?" in screen_text(app))
        await pilot.press("y")
        await until(pilot, lambda: "U restores them" in app.notice)
        assert set(before) - set(names(run)) == {"step_300", "step_400"}
        await until(pilot, lambda: "2 of 6 marked" not in screen_text(app))
        await pilot.press("U")
        await until(pilot, lambda: "Looking" not in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: names(run) == before)


async def test_a_checkpoint_is_verified(run: RunDirectory) -> None:
    bad = save_checkpoint(run.checkpoints, 600)
    weights = bad / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    async with watching(run) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: app.pages["checkpoints"].cursor == "step_600")
        await pilot.press("v")
        await until(pilot, lambda: "model.safetensors" in app.notice)
        await pilot.press("j", "j", "v")
        await until(pilot, lambda: "all checksums match" in app.notice)
        rows = [row for row in screen_text(app).split("\n") if " step_" in row and " B " in row]
        assert ["✗" in row for row in rows if "step_600" in row] == [True]
        assert ["✓" in row for row in rows if "step_500" in row] == [True]
        assert sum("✓" in row or "✗" in row for row in rows) == 2


async def test_a_queued_run_is_taken_out_of_the_queue(tmp_path: Path) -> None:
    write_run(tmp_path, "waiting", {"status": "queued", "supervised": True})
    app = MonitorApp(Poller(tmp_path, 0.1), tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.selected is not None)
        await pilot.press("s")
        await until(pilot, lambda: "out of the queue?" in screen_text(app))
        await pilot.press("y")
        await until(pilot, lambda: "is cancelled" in app.notice)
    assert (RunDirectory(tmp_path / "waiting").read_state() or RunState()).status == "cancelled"


async def test_tags_a_note_and_a_name(run: RunDirectory) -> None:
    async with watching(run) as (app, pilot):
        await pilot.press("t", *"lr", "comma", *"big", "enter")
        await until(pilot, lambda: read_labels(run).tags == ("lr", "big"))
        await until(pilot, lambda: "#lr #big" in screen_text(app))
        await pilot.press("n", *"good", "ctrl+s")
        await until(pilot, lambda: read_labels(run).note == "good")
        await pilot.press("N", *"winner", "enter")
        await until(pilot, lambda: "winner" in screen_text(app).splitlines()[2])
        await pilot.press("N", "escape")
        assert read_labels(run).name == "winner"


async def test_archiving_hides_the_run_and_brings_it_back(run: RunDirectory) -> None:
    async with watching(run) as (app, pilot):
        await pilot.press("a")
        await until(pilot, lambda: "The only run is archived" in screen_text(app))
        assert app.selected is not None, "what was looked at is still there"
        await pilot.press("a")
        await until(pilot, lambda: len(app.listing.runs) == 1)
        assert not read_labels(run).archived


async def test_deleting_is_typed_and_undone(run: RunDirectory) -> None:
    async with watching(run) as (app, pilot):
        await pilot.press("D")
        await until(pilot, lambda: "to the trash" in screen_text(app))
        await pilot.press(*"dem", "enter")
        assert run.path.is_dir()
        await pilot.press("o", "enter")
        await until(pilot, lambda: not run.path.exists())
        await until(pilot, lambda: "No runs in" in screen_text(app))
        await pilot.press("U")
        await until(pilot, lambda: "demo_1" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, run.path.is_dir)
        await until(pilot, lambda: app.selected is not None)


async def test_the_command_that_repeats_it_is_copied(run: RunDirectory) -> None:
    async with watching(run) as (app, pilot):
        copied: list[str] = []
        app.copy_to_clipboard = copied.append  # type: ignore[method-assign]
        await pilot.press("y")
        await until(pilot, lambda: bool(copied))
        assert copied[0].startswith("trainer ")
        assert "Copied: trainer" in app.notice


async def test_the_chart_that_is_looked_at_is_exported(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with watching(run) as (app, pilot):
        await until(pilot, lambda: app.detail is not None and app.detail.loading is None)
        await pilot.press("2", "plus", "plus")
        await until(pilot, lambda: app.look.chart.is_zoomed)
        await pilot.press("e")
        await until(pilot, lambda: "the chart as SVG" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Wrote" in app.notice)
    (made,) = tmp_path.glob("*.svg")
    drawn = made.read_text()
    assert "<svg" in drawn
    assert "loss" in drawn
    assert ">0<" not in drawn, "the part of the axis that was looked at"


async def test_an_upload_begins_at_the_checkpoint_under_the_cursor(run: RunDirectory) -> None:
    async with watching(run) as (app, pilot):
        await pilot.press("4", "j", "j")
        await until(pilot, lambda: app.pages["checkpoints"].cursor == "step_400")
        await pilot.press("u")
        await until(pilot, lambda: "step_400: " in screen_text(app))
        await pilot.press("escape", "1", "u")
        await until(pilot, lambda: "step_200: " in screen_text(app))


async def test_without_a_run_nothing_happens(tmp_path: Path) -> None:
    app = MonitorApp(Poller(tmp_path, 0.1), tmp_path)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: "No runs in" in screen_text(app))
        await pilot.press(*"PuvetnNaDy")
        assert len(app.screen_stack) == 1
        await pilot.press("U")
        await until(pilot, lambda: "Looking" not in screen_text(app))
