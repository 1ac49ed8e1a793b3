"""What happens around the end of a run, a stop and a pause, when something else goes wrong then."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from pathlib import Path

import pytest

from shared.checkpoints.catalogue import in_use, list_checkpoints
from shared.control.requests import submit
from shared.files import write_json
from shared.run.records import RunState
from tests.trainer.loop.conftest import Train, Trained, find, resume
from trainer.checkpoint import saving
from trainer.loop import keeper
from trainer.loop.step import OptimizerStep
from trainer.loop.training import Training


def test_one_failed_save_does_not_make_saves_chase_each_other(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it, a save that takes longer than the time until the next try is still one save."""
    monkeypatch.setattr(keeper, "RETRY_SECONDS", 0.01)
    real, calls = saving.write_manifest, []

    def slow(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        time.sleep(0.1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(saving, "write_manifest", slow)
    done = train("chase", train__max_steps=100, checkpoint__interval=50, eval__interval=100)
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


def at_step(monkeypatch: pytest.MonkeyPatch, wanted: int, act) -> None:  # type: ignore[no-untyped-def]
    original = Training._step

    def step(self: Training) -> None:
        if self._session.progress.step + 1 == wanted:
            act(self)
        original(self)

    monkeypatch.setattr(Training, "_step", step)


def test_a_stop_is_a_stop_though_nothing_can_be_saved(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No daemon may take it for a failure and start the run again."""

    def ask(self: Training) -> None:
        monkeypatch.setattr(saving, "free_bytes", lambda _folder: 0)
        submit(self._writer.run.control, "stop")
        time.sleep(0.6)  # the pulse lists the folder four times a second

    at_step(monkeypatch, 6, ask)
    done = train("stopped", train__max_steps=1000, checkpoint__interval=1000)
    assert done.code == 0
    assert done.state.status == "cancelled"
    assert "the last step is not saved" in done.state.exit.reason


def test_a_rollback_without_a_readable_checkpoint_does_not_begin_anew(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nan(self: OptimizerStep) -> object:
        losses = original(self)
        if self._session.progress.step >= 6:
            for parameter in self._session.model.parameters():
                parameter.grad.mul_(float("nan"))  # type: ignore[union-attr]
        return losses

    original = OptimizerStep._forward_backward
    monkeypatch.setattr(OptimizerStep, "_forward_backward", nan)
    at_step(
        monkeypatch,
        7,
        lambda self: (self._keeper.wait(), self._keeper.folder.rename(tmp_path / "away")),
    )
    done = train("unreadable")
    assert done.code == 1
    assert "No checkpoint is there to go back to" in done.state.exit.reason
    assert not any(e["event"] == "rolled_back" for e in done.events)


def test_nothing_is_saved_while_steps_are_bad(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even on request: all rollbacks would go to it."""

    def nan(self: OptimizerStep) -> object:
        losses = original(self)
        if self._session.progress.step in (5, 6):
            for parameter in self._session.model.parameters():
                parameter.grad.mul_(float("nan"))  # type: ignore[union-attr]
        return losses

    def ask(self: Training) -> None:
        submit(self._writer.run.control, "checkpoint")
        time.sleep(0.6)

    original = OptimizerStep._forward_backward
    monkeypatch.setattr(OptimizerStep, "_forward_backward", nan)
    at_step(monkeypatch, 6, ask)
    done = train("bad")
    assert done.code == 0
    answer = next(e for e in done.events if e["event"] == "answer")
    assert not answer["ok"]
    assert "not finite" in answer["message"]
    assert "step_6" not in [c.name for c in list_checkpoints(done.run.checkpoints)]


def test_retention_leaves_what_somebody_reads(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = []

    def read(self: Training) -> None:
        self._keeper.wait()
        context = in_use(self._keeper.folder / "step_2")
        context.__enter__()
        reading.append(context)

    at_step(monkeypatch, 3, read)
    done = train("read", checkpoint__interval=2, checkpoint__keep_last=1, eval__interval=100)
    assert done.code == 0
    names = [c.name for c in list_checkpoints(done.run.checkpoints)]
    reading[0].__exit__(None, None, None)
    assert "step_2" in names
    assert "step_6" not in names


def test_memory_that_ends_in_the_copies_costs_the_copies_only(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.checkpoint.staging import Staging

    def copy(_self: Staging, _tensors: object) -> object:
        raise MemoryError

    monkeypatch.setattr(Staging, "copy", copy)
    done = train("copies")
    assert done.code == 0
    assert "memory does not hold a second copy" in done.log
    assert "step_8" in [c.name for c in list_checkpoints(done.run.checkpoints)]


def test_a_pause_survives_a_crash_but_not_a_person(train: Train) -> None:
    """What a daemon starts again waits as before; who resumes by hand means it."""
    first = train("paused", train__max_steps=4)
    state = dataclasses.replace(first.state, status="running", exit=None, paused=True)
    write_json(first.run.state_path, state.to_json())
    answers: list[str] = []

    def continue_it() -> None:
        deadline = time.monotonic() + 60
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
