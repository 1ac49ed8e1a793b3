"""Every key on run directories that real trainings made, one of them at work meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.actions.registry import ACTIONS
from monitor.app import MonitorApp
from monitor.data.poller import Poller
from monitor.data.views import RunView
from shared.checkpoints.catalogue import list_checkpoints
from shared.run.directory import RunDirectory
from shared.run.finding import find_run
from shared.run.records import RunState
from tests.conftest import RunCli
from tests.monitor.support import screen_text, until

pytestmark = pytest.mark.slow
SHAPE = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 32}
#: Quitting ends the test, the command goes to the terminal's clipboard, and stopping has its own.
LEFT_OUT = {"quit", "copy_command", "pause", "stop"}
#: Where the keys of a group do something of their own.
PAGES_OF = {"Move": "12345678", "Charts": "123", "Keep": "4"}


def arguments(runs: Path, data: Path, name: str, steps: int) -> list[str]:
    shape = [part for key, value in SHAPE.items() for part in ("--set", f"model.{key}={value}")]
    every = ["--eval-interval", "10", "--checkpoint-interval", "10", "--log-interval", "5"]
    place = ["--runs-dir", str(runs), "--data-path", str(data), "--name", name]
    small = ["--max-steps", str(steps), "--batch-size", "2", "--threads", "1"]
    return ["train", *place, *small, *every, *shape, "--set", "eval.batches=1"]


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, token_data: Path, run_cli: RunCli
) -> Iterator[Path]:
    """`done` has ended, `live` is at work."""
    folder = tmp_path_factory.mktemp("real") / "runs"
    assert run_cli(*arguments(folder, token_data, "done", 40)).code == 0
    assert run_cli(*arguments(folder, token_data, "live", 10**8), "--detach").code == 0
    yield folder
    state = find_run(folder, "live").read_state() or RunState()
    if state.ended_at is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGKILL)


def chosen(app: MonitorApp) -> RunView:
    assert app.selected is not None
    return app.selected


async def test_every_key_can_be_pressed_on_a_run_that_trains(runs: Path) -> None:
    app = MonitorApp(Poller(runs, 0.1), runs, selected=find_run(runs, "live").run_id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.selected is not None and chosen(app).step > 0)
        for page in "12345678":
            await pilot.press(page)
            for action in ACTIONS:
                if action.name in LEFT_OUT or page not in PAGES_OF.get(action.group, "1"):
                    continue
                for key in action.keys:
                    await pilot.press(key)
                    while len(app.screen_stack) > 1:
                        await pilot.press("escape")
                        await pilot.pause()
                if app.is_filtering:
                    await pilot.press("escape")
        assert app.snapshot is not None
        assert {r.name: r.alive for r in app.snapshot.runs} == {"done": False, "live": True}
        assert app.return_code is None


async def test_a_live_run_is_steered_by_keys_and_comes_back(runs: Path) -> None:
    run = find_run(runs, "live")
    app = MonitorApp(Poller(runs, 0.1), runs, selected=run.run_id)
    async with app.run_test(size=(120, 40)) as pilot:

        async def becomes(status: str) -> None:
            await until(pilot, lambda: chosen(app).status == status)

        await until(pilot, lambda: app.selected is not None)
        await becomes("running")
        await pilot.press("p")
        await becomes("paused")
        await until(pilot, lambda: "paused at step" in app.notice)
        stands_at = (run.read_state() or RunState()).current_step
        await pilot.press("c")
        await until(pilot, lambda: f"saved step_{stands_at}" in app.notice)
        assert f"step_{stands_at}" in {c.name for c in list_checkpoints(run.checkpoints)}
        await pilot.press("p")
        await becomes("running")
        await until(pilot, lambda: chosen(app).step > stands_at)
        await pilot.press("s", "y")
        await becomes("cancelled")
        await until(pilot, lambda: "is cancelled at step" in app.notice)
        ended_at = chosen(app).step
        await pilot.press("R")
        await becomes("running")
        await until(pilot, lambda: chosen(app).step > ended_at)
        assert chosen(app).attempt == 2
        pid = chosen(app).pid
        os.kill(pid, signal.SIGKILL)
        await becomes("crashed")
        await until(pilot, lambda: "R" in screen_text(app))


async def test_a_finished_run_shows_all_it_has(runs: Path) -> None:
    run = find_run(runs, "done")
    app = MonitorApp(Poller(runs, 0.1), runs, selected=run.run_id)
    async with app.run_test(size=(200, 50)) as pilot:
        await until(pilot, lambda: app.detail is not None and not app.detail.approximate)
        for page, words in (
            ("1", "completed"),
            ("2", "val_loss"),
            ("3", "slope"),
            ("4", "step_40"),
            ("5", "checkpoint saved"),
            ("6", "loss="),
            ("7", "hidden_size"),
            ("8", "step 40"),
        ):
            await pilot.press(page)
            await until(pilot, lambda words=words: words in screen_text(app))  # type: ignore[misc]
        await pilot.press("R")
        await until(pilot, lambda: "is completed" in app.notice)


async def test_checkpoints_of_a_real_run_are_pruned_and_brought_back(runs: Path) -> None:
    run = RunDirectory(find_run(runs, "done").path)
    before = {c.name for c in list_checkpoints(run.checkpoints)}
    app = MonitorApp(Poller(runs, 0.1), runs, selected=run.run_id)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, lambda: app.detail is not None and bool(app.detail.checkpoints))
        await pilot.press("4", "G", "space", "v")
        oldest = min((c for c in list_checkpoints(run.checkpoints)), key=lambda c: c.step).name
        await until(pilot, lambda: app.pages["checkpoints"].marked(run.run_id) == {oldest})
        await until(pilot, lambda: "all checksums match" in app.notice)
        await pilot.press("P")
        await until(pilot, lambda: "1 checkpoint" in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: "to the trash?" in screen_text(app))
        await pilot.press("y")
        await until(pilot, lambda: "U restores it" in app.notice)
        assert {c.name for c in list_checkpoints(run.checkpoints)} == before - {oldest}
        await pilot.press("U")
        await until(pilot, lambda: len(app.screen_stack) > 1 and "Looking" not in screen_text(app))
        await pilot.press("enter")
        await until(pilot, lambda: {c.name for c in list_checkpoints(run.checkpoints)} == before)
