"""The real app, driven by keys."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest

from monitor.actions.registry import ACTIONS
from monitor.app import MonitorApp
from monitor.data.poller import Poller
from monitor.data.views import RunDetail, RunView
from monitor.list_order import keep_selection
from monitor.screens.dialogs import ConfirmScreen, HelpScreen
from monitor.widgets.bars import Notice
from shared.errors import RunError
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.monitor.support import (
    metric_lines,
    screen_text,
    snapshot,
    still_app,
    until,
    view,
    watched,
    with_status,
    write_run,
)
from tests.waiting import SECONDS

Showcase = tuple[tuple[RunView, ...], RunDetail]


def selected(app: MonitorApp) -> str | None:
    return app.selected.run_id if app.selected else None


async def test_j_and_k_move_and_stop_at_the_ends() -> None:
    app, source = watched(view("a"), view("b"), view("c"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: selected(app) == "a")
        for key, expected in [
            ("k", "a"), ("j", "b"), ("down", "c"), ("j", "c"), ("up", "b"), ("g", "a"), ("G", "c"),
        ]:  # fmt: skip
            await pilot.press(key)
            assert selected(app) == expected
        assert source.selected[-1] == "c"


async def test_the_selection_stays_when_runs_appear_vanish_and_change_places() -> None:
    a, b, c, d = (view(x) for x in "abcd")
    app, source = watched(a, b, c)
    async with app.run_test() as pilot:
        await until(pilot, lambda: selected(app) == "a")
        await pilot.press("j")
        for runs in [(d, a, b, c), (c, b, a), (b,), (a, with_status(b, "failed"), d)]:
            source.publish(snapshot(*runs))
            await pilot.pause()
            assert selected(app) == "b"
        source.publish(snapshot(a, d))
        await pilot.pause()
        assert selected(app) == "d"
        source.publish(snapshot(a, b, d))
        await pilot.pause()
        assert selected(app) == "d", "it does not jump back either"


def test_the_selection_of_a_vanished_run_goes_to_its_neighbour() -> None:
    runs = tuple(view(x) for x in "abcd")
    assert keep_selection(None, (), runs) == "a"
    assert keep_selection("b", runs, (runs[0], runs[3])) == "d"
    assert keep_selection("d", runs, runs[:2]) == "b"
    assert keep_selection("b", runs, ()) is None


async def test_a_click_selects() -> None:
    app = still_app(view("a"), view("b"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: selected(app) == "a")
        await pilot.click("#runs", offset=(5, 2))
        await until(pilot, lambda: selected(app) == "b")


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_help_lists_every_action_and_every_action_exists(size: tuple[int, int]) -> None:
    app = still_app(view("a"))
    async with app.run_test(size=size) as pilot:
        await pilot.press("question_mark")
        assert isinstance(app.screen, HelpScreen)
        seen = screen_text(app)
        for _ in range(12):
            await pilot.press("pagedown")
            seen += screen_text(app)
        for action in ACTIONS:
            assert action.help in seen, action.help
        await pilot.press("question_mark")
        assert not isinstance(app.screen, HelpScreen)


async def test_every_key_scrolls_the_help_however_fast_they_come() -> None:
    app = still_app(view("a"))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: app.screen.query("#dialog"))
        box = app.screen.query_one("#dialog")
        for _ in range(5):  # as keys that come before the next refresh
            await app.run_action("scroll(1)", app.screen)
        await pilot.pause()
        assert box.scroll_y == 5
        await pilot.press("G")
        assert box.scroll_y == box.max_scroll_y > 5
        await pilot.press("g")
        assert box.scroll_y == 0


def test_every_action_is_answered_for_and_no_key_has_two() -> None:
    keys = [key for action in ACTIONS for key in action.keys]
    assert len(keys) == len(set(keys))
    names = [action.name for action in ACTIONS]
    assert len(names) == len(set(names))
    assert set(still_app().acts) == set(names)


async def test_d_toggles_the_details(showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "checkpoints 3" in screen_text(app))
        assert "parameters" not in screen_text(app)
        await pilot.press("d")
        await until(pilot, lambda: "25.58M (25,580,000)" in screen_text(app))
        assert "checkpoints 3" not in screen_text(app)
        await pilot.press("pagedown", "pagedown", "pagedown")
        await until(pilot, lambda: "config.yaml" in screen_text(app))
        await pilot.press("d")
        await until(pilot, lambda: "checkpoints 3" in screen_text(app))


async def test_an_alarm_is_seen_in_the_list_the_head_and_the_details(showcase: Showcase) -> None:
    runs, detail = showcase
    alarmed = dataclasses.replace(runs[0], alarm="No room for checkpoints", supervised=True)
    app, source = watched(alarmed, *runs[1:], detail=detail)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "running !" in screen_text(app))
        assert screen_text(app).count("No room for checkpoints") == 1
        await pilot.press("d")
        await until(pilot, lambda: screen_text(app).count("No room for checkpoints") == 2)
        assert "nobody: no daemon watches it" in screen_text(app)
        shown = snapshot(alarmed, *runs[1:], detail=detail)
        source.publish(dataclasses.replace(shown, watched=True))
        await until(pilot, lambda: "a daemon, if it crashes" in screen_text(app))


async def test_what_arrives_while_it_leaves_is_no_error(showcase: Showcase) -> None:
    runs, detail = showcase
    app, _ = watched(*runs, detail=detail)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("9")
    app.snapshot = snapshot(view("late"))
    app.look = dataclasses.replace(app.look, selected="late")


async def test_r_looks_again() -> None:
    app, source = watched(view("a"))
    async with app.run_test() as pilot:
        await pilot.press("r")
        assert source.refreshed == 1


async def test_an_empty_folder_says_how_to_begin_and_fills_by_itself() -> None:
    app, source = watched()
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "trainer train --runs-dir runs" in screen_text(app))
        await pilot.press("j", "R", "p", "s", "c", "d", "d")
        source.publish(snapshot(view("a")))
        await until(pilot, lambda: "▌ ● a" in screen_text(app))
        source.publish(snapshot(problem="runs cannot be read: Permission denied"))
        await until(pilot, lambda: "Permission denied" in screen_text(app))


async def test_a_dead_run_shows_its_reason_and_last_words(showcase: Showcase) -> None:
    runs, _ = showcase
    app = still_app(runs[3])
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("d")
        await until(pilot, lambda: "failed (exit code 1)" in screen_text(app))
        assert "step 1199  loss 1.785" in screen_text(app)


class Launchpad:
    """A launcher that a test releases when it wants."""

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.launched: list[str] = []
        self.go = threading.Event()

    def __call__(self, run: RunDirectory) -> str:
        self.launched.append(run.run_id)
        assert self.go.wait(SECONDS)
        if self.error:
            raise RunError(self.error)
        return "running"


async def test_resume_is_announced_when_it_is_true(crashed_run: RunDirectory) -> None:
    folder = crashed_run.path.parent
    pad = Launchpad()
    app = MonitorApp(Poller(folder, 0.1), folder, launcher=pad)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: selected(app) == "crashed_1")
        await pilot.press("R", "R", "R")
        await until(pilot, lambda: pad.launched == ["crashed_1"])
        assert "is running again" not in screen_text(app)
        pad.go.set()
        await until(pilot, lambda: "crashed_1 is running again." in screen_text(app))
    assert pad.launched == ["crashed_1"]


async def test_a_failed_start_is_told(crashed_run: RunDirectory) -> None:
    folder = crashed_run.path.parent
    pad = Launchpad("The trainer of crashed_1 ended at once: [/no] such config")
    pad.go.set()
    app = MonitorApp(Poller(folder, 0.1), folder, launcher=pad)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: selected(app) == "crashed_1")
        await pilot.press("R")
        await until(pilot, lambda: "[/no] such config" in screen_text(app))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "nothing to resume"),
        ({"status": "paused"}, "nothing to resume"),
        ({"status": "completed", "alive": False}, "completed"),
        ({"status": "initializing", "alive": False}, "only a run that has ended"),
    ],
)
async def test_resume_is_refused_with_a_reason(fields: dict[str, Any], reason: str) -> None:
    pad = Launchpad()
    app = still_app(view("a", **fields), launcher=pad)
    async with app.run_test() as pilot:
        await until(pilot, lambda: selected(app) == "a")
        await pilot.press("R")
        await until(pilot, lambda: reason in screen_text(app))
    assert pad.launched == []


async def test_steering_shows_the_trainers_answers(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="live", max_steps=10) as writer:
        writer.log(3, loss=1.0)
        app = MonitorApp(Poller(tmp_path, 0.1), tmp_path)

        async def answer(pilot: Any, action: str, message: str) -> None:
            found: list[Any] = []
            await until(pilot, lambda: bool(found.extend(writer.take_requests()) or found))
            assert found[0].action == action
            writer.answer(found[0], ok=True, message=message)

        async def serve(pilot: Any, action: str, message: str) -> None:
            await answer(pilot, action, message)
            await until(pilot, lambda: message in screen_text(app))

        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: app.selected is not None and app.selected.alive)
            await pilot.press("p")
            await until(pilot, lambda: "to pause…" in screen_text(app))
            await serve(pilot, "pause", "paused at step 3")
            writer.set_status("paused")
            await until(pilot, lambda: app.selected is not None and app.selected.status == "paused")
            await pilot.press("p")
            await serve(pilot, "resume", "going on")
            await pilot.press("c")
            await serve(pilot, "checkpoint", "saved step_3")
            await pilot.press("s")
            assert isinstance(app.screen, ConfirmScreen)
            await pilot.press("n")
            assert not isinstance(app.screen, ConfirmScreen)
            assert "is still training" in app.farewell()
            assert f"trainer stop {writer.run.run_id}" in app.farewell()
            await pilot.press("s", "y")
            await answer(pilot, "stop", "stopping after step 3")
            writer.finish("cancelled")
            await until(pilot, lambda: "is cancelled at step 3" in screen_text(app))


async def test_nothing_is_asked_of_a_dead_run(tmp_path: Path) -> None:
    app = still_app(view("a", alive=False, status="crashed"))
    async with app.run_test() as pilot:
        await until(pilot, lambda: selected(app) == "a")
        for key in "pcs":
            await pilot.press(key)
            await until(pilot, lambda: "there is no trainer" in screen_text(app))
            assert len(app.screen_stack) == 1
            app.query_one(Notice).show("", "primary")


async def test_leaving_does_not_wait_for_an_answer(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="live") as writer:
        app = MonitorApp(Poller(tmp_path, 0.1), tmp_path)
        async with asyncio.timeout(120), app.run_test() as pilot:
            await until(pilot, lambda: app.selected is not None and app.selected.alive)
            await pilot.press("c")
            await until(pilot, lambda: bool(list(writer.run.control.iterdir())))
            await pilot.press("q")
        assert app.return_code == 0


async def test_the_curve_of_a_growing_file(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {"status": "running", "pid": 1}, metric_lines(50))
    app = MonitorApp(Poller(tmp_path, 0.1), tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "loss 1.100" in screen_text(app))
        with (folder / "metrics.jsonl").open("ab") as file:
            file.write(b'{"step": 50, "loss": NaN}\n')
        await until(pilot, lambda: "✕ 1 nan/inf" in screen_text(app))
        (folder / "metrics.jsonl").write_bytes(metric_lines(3))
        await until(pilot, lambda: "loss 2.667" in screen_text(app))
        assert "nan/inf" not in screen_text(app)


@pytest.mark.parametrize("size", [(20, 6), (40, 10), (80, 24), (119, 31), (120, 12), (250, 70)])
async def test_every_size_draws(size: tuple[int, int], showcase: Showcase) -> None:
    runs, detail = showcase
    app = still_app(*runs, detail=detail)
    async with app.run_test(size=size) as pilot:
        await pilot.press("d", "j", "k", "d", "question_mark", "escape")
        assert "train-monitor" in screen_text(app)
        assert all(strip.cell_length == size[0] for strip in
                   app.screen._compositor.render_strips(app.size))  # fmt: skip
