"""What happens around the end of a run, a stop and a pause, when something else goes wrong then."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import in_use, list_checkpoints
from shared.control.requests import submit
from shared.files import write_json
from shared.run.records import RunState
from tests import waiting
from tests.trainer.loop.conftest import Train, Trained, find, resume, wait_for
from trainer.checkpoint.disk import Disk, free_bytes
from trainer.loop.figures import Part
from trainer.loop.hooks import Hooks
from trainer.loop.session import Session
from trainer.loop.training import Training


def test_one_failed_save_does_not_make_saves_chase_each_other(train: Train) -> None:
    """After it, a save that takes longer than the time until the next try is still one save."""
    calls: list[Path] = []

    def slow(path: Path) -> None:
        if path.name != "manifest.json":
            return
        calls.append(path)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        time.sleep(0.1)

    hooks = Hooks(disk=Disk(written=slow), retry_seconds=0.01)
    shape = {"train__max_steps": 100, "checkpoint__interval": 50, "eval__interval": 100}
    done = train("chase", hooks=hooks, **shape)
    assert done.code == 0
    # The failed one, its next try, the one at 100 (the end).
    assert len(calls) <= 4
    saved = [e["name"] for e in done.events if e["event"] == "checkpoint_saved"]
    assert saved[-2:] == ["step_100", "final"]


@pytest.mark.parametrize("final_there", [True, False])
def test_killed_between_the_last_save_and_the_last_word(train: Train, final_there: bool) -> None:
    """All that is left to do is to say so; it does not count as finished before."""
    done = train("word")
    if not final_there:
        shutil.rmtree(done.run.checkpoints / "final")
    state = dataclasses.replace(done.state, status="running", exit=None, ended_at=None)
    write_json(done.run.state_path, state.to_json())
    again = resume(done.run)
    assert again.code == 0
    assert again.state.status == "completed"
    assert (again.run.checkpoints / "final").is_dir()
    assert again.state.current_step == 12


def at_step(wanted: int, act: Callable[[Training], None]) -> Callable[[Training], None]:
    """A `before_step` that acts before the step `wanted`."""

    def before_step(training: Training) -> None:
        if training.session.progress.step + 1 == wanted:
            act(training)

    return before_step


def ask(training: Training, action: str) -> None:
    """A request that is there when the next step begins."""
    submit(training.writer.run.control, action)
    wait_for(lambda: training.writer.waiting_requests, "the request")


def nan_after(*steps: int) -> Callable[[Session, Sequence[Part]], None]:
    """An `after_backward` that makes every gradient NaN once these steps are done."""

    def after_backward(session: Session, _parts: Sequence[Part]) -> None:
        if session.progress.step in steps:
            for parameter in session.model.parameters():
                parameter.grad.mul_(float("nan"))  # type: ignore[union-attr]

    return after_backward


def test_a_stop_is_a_stop_though_nothing_can_be_saved(train: Train) -> None:
    """No daemon may take it for a failure and start the run again."""
    full: list[bool] = []

    def fill_and_stop(training: Training) -> None:
        full.append(True)
        ask(training, "stop")

    disk = Disk(free_bytes=lambda folder: 0 if full else free_bytes(folder))
    hooks = Hooks(before_step=at_step(6, fill_and_stop), disk=disk)
    done = train("stopped", hooks=hooks, checkpoint__interval=1000)
    assert done.code == 0
    assert done.state.status == "cancelled"
    assert "the last step was not saved" in done.state.exit.reason


def test_a_rollback_without_a_readable_checkpoint_does_not_begin_anew(
    train: Train, tmp_path: Path
) -> None:
    def take_away(training: Training) -> None:
        training.keeper.wait()
        training.keeper.folder.rename(tmp_path / "away")

    hooks = Hooks(before_step=at_step(7, take_away), after_backward=nan_after(6, 7, 8))
    done = train("unreadable", hooks=hooks)
    assert done.code == 1
    assert "There is no checkpoint to roll back to" in done.state.exit.reason
    assert not any(e["event"] == "rolled_back" for e in done.events)


def test_nothing_is_saved_while_steps_are_bad(train: Train) -> None:
    """Not even on request: all rollbacks would go to it."""
    hooks = Hooks(
        before_step=at_step(6, lambda training: ask(training, "checkpoint")),
        after_backward=nan_after(5, 6),
    )
    done = train("bad", hooks=hooks)
    assert done.code == 0
    answer = next(e for e in done.events if e["event"] == "answer")
    assert not answer["ok"]
    assert "not finite" in answer["message"]
    assert "step_6" not in [c.name for c in list_checkpoints(done.run.checkpoints)]


def test_retention_leaves_what_somebody_reads(train: Train) -> None:
    with contextlib.ExitStack() as reading:

        def read(training: Training) -> None:
            training.keeper.wait()
            reading.enter_context(in_use(training.keeper.folder / "step_2"))

        shape = {"checkpoint__interval": 2, "checkpoint__keep_last": 1, "eval__interval": 100}
        done = train("read", hooks=Hooks(before_step=at_step(3, read)), **shape)
    assert done.code == 0
    names = [c.name for c in list_checkpoints(done.run.checkpoints)]
    assert "step_2" in names
    assert "step_6" not in names


def test_memory_that_ends_in_the_copies_costs_the_copies_only(train: Train) -> None:
    def before_copy(_session: Session) -> None:
        raise MemoryError

    done = train("copies", hooks=Hooks(before_copy=before_copy))
    assert done.code == 0
    assert "not enough memory for a copy" in done.log
    assert "step_8" in [c.name for c in list_checkpoints(done.run.checkpoints)]


def test_a_pause_survives_a_crash_but_not_a_person(train: Train) -> None:
    """What a daemon starts again waits as before; who resumes by hand means it."""
    first = train("paused", train__max_steps=4)
    state = dataclasses.replace(first.state, status="running", exit=None, paused=True)
    write_json(first.run.state_path, state.to_json())
    answers: list[str] = []

    def continue_it() -> None:
        deadline = time.monotonic() + waiting.SECONDS
        while time.monotonic() < deadline:
            now = first.run.read_state() or RunState()
            if now.status == "paused" and now.attempt == 2:
                answers.append(now.status)
                submit(first.run.control, "resume")
                return
            time.sleep(0.02)

    thread = threading.Thread(target=continue_it)
    thread.start()
    again = resume(first.run, "--max-steps", "8", "--supervised")
    thread.join()
    assert again.code == 0
    assert answers == ["paused"]
    assert not again.state.paused
    write_json(
        first.run.state_path,
        dataclasses.replace(again.state, status="running", exit=None, paused=True).to_json(),
    )
    by_hand: Trained = resume(first.run, "--max-steps", "10")
    assert by_hand.code == 0
    assert find(first.run.path.parent, "paused").read_state().current_step == 10  # type: ignore[union-attr]
