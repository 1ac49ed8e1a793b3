"""Asking a run and waiting for the answer, with a clock of our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.control.client import Answer, ask, wait_until_ended
from shared.control.daemons import DaemonDirectory
from shared.control.idle_run import act_or_ask, hold_if_idle
from shared.control.requests import pending
from shared.control.waiting import Patience, wait_for
from shared.errors import RunError
from shared.ownership.heartbeat import HeartbeatFile
from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory, create_run
from shared.run_writer import RunWriter


@dataclass
class Clock:
    """Time passes only in pauses; `at` says what happens in the pause with that number."""

    now: float = 1000.0
    pauses: int = 0
    at: dict[int, Callable[[], object]] = field(default_factory=dict)
    leave_at: int = 0

    def pause(self, seconds: float) -> bool:
        self.pauses += 1
        self.now += seconds
        if self.pauses in self.at:
            self.at[self.pauses]()
        return self.pauses == self.leave_at

    def patience(self, timeout: float = 20.0, gone: float = 5.0) -> Patience:
        return Patience(timeout, gone, look=1.0, clock=lambda: self.now, pause=self.pause)


def serve(writer: RunWriter, *, ok: bool, message: str) -> Callable[[], None]:
    """Answer every request that lies there."""

    def answer() -> None:
        for request in pending(writer.run.control):
            writer.answer(request, ok=ok, message=message)

    return answer


@pytest.mark.parametrize("ok", [True, False])
def test_the_answer_is_the_event_with_the_id(tmp_path: Path, ok: bool) -> None:
    with RunWriter(tmp_path) as writer:
        clock = Clock(at={3: serve(writer, ok=ok, message="paused\x1b at step 5")})
        asked = ask(writer.run, "pause", patience=clock.patience())
        writer.event("answer", request="another", ok=True, message="not this one")
        assert asked.wait() == Answer(ok, "paused at step 5")
        assert clock.pauses == 3


def test_nobody_answers_in_time(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="slow") as writer:
        clock = Clock()
        with pytest.raises(RunError) as caught:
            ask(writer.run, "pause", patience=clock.patience()).wait()
        told = f"Run {writer.run.run_id} has not answered within 20 s; the request stays."
        assert str(caught.value) == told
        assert clock.pauses == 20
        assert len(pending(writer.run.control)) == 1


def test_the_timeout_counts_from_the_request(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        clock = Clock()
        asked = ask(writer.run, "pause", patience=clock.patience())
        clock.now += 19.5
        with pytest.raises(RunError, match="within 20 s"):
            asked.wait()
        assert clock.pauses == 1


def test_a_request_can_be_withdrawn(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        asked = ask(writer.run, "prune", label="LABEL", patience=Clock().patience())
        with pytest.raises(RunError, match=r"^LABEL has not .* the request was withdrawn. Try aga"):
            asked.wait(withdraw=True)
        assert pending(writer.run.control) == []


def test_a_wait_can_be_left(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        clock = Clock(leave_at=2)
        assert ask(writer.run, "pause", patience=clock.patience()).wait() is None
        assert len(pending(writer.run.control)) == 1


def test_a_run_that_ends_is_not_waited_for(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    clock = Clock(
        at={2: lambda: (pending(writer.run.control)[0].remove(), writer.finish("failed"))}
    )
    with pytest.raises(RunError, match="ended without an answer"):
        ask(writer.run, "pause", patience=clock.patience(timeout=500.0)).wait()
    assert clock.pauses < 10


def test_what_it_answered_at_its_end_is_heard(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    clock = Clock(at={2: lambda: writer.finish("completed")})
    answer = ask(writer.run, "pause", patience=clock.patience()).wait()
    assert answer == Answer(ok=False, message="the run ended (completed) before it could act")


@pytest.fixture
def dead(tmp_path: Path) -> RunDirectory:
    writer = RunWriter(tmp_path)
    writer.finish("failed", 1, "why")
    return writer.run


def test_a_daemon_is_given_time_to_answer_for_a_dead_run(dead: RunDirectory) -> None:
    def by_daemon() -> None:
        with hold_if_idle(dead) as idle:
            assert idle is not None
            for request in pending(dead.control):
                idle.answer(request, ok=True, message="queued")

    clock = Clock(at={4: by_daemon})
    answer = ask(dead, "resume", patience=clock.patience()).wait(by_daemon=True)
    assert answer == Answer(ok=True, message="queued")


def test_a_daemon_that_goes_away_is_not_waited_for(dead: RunDirectory) -> None:
    clock = Clock()
    with pytest.raises(RunError, match="ended without an answer"):
        ask(dead, "resume", patience=clock.patience(timeout=500.0)).wait(by_daemon=True)
    assert 5 < clock.pauses < 10


def test_a_daemon_at_work_is_waited_for(dead: RunDirectory) -> None:
    directory = DaemonDirectory.of(dead.path.parent)
    directory.control.mkdir(parents=True)
    lock = RunLock(directory.lock_path)
    lock.acquire()
    beat = HeartbeatFile(directory.heartbeat_path)
    beat.beat()
    clock = Clock()
    with pytest.raises(RunError, match="has not answered within 30 s"):
        ask(dead, "resume", patience=clock.patience(timeout=30.0)).wait(by_daemon=True)
    beat.close()
    lock.release()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Cannot leave a request in .*: No such file"):
        ask(RunDirectory(tmp_path / "absent"), "pause")


# -- here or by its owner ----------------------------------------------------------------------


def test_nobody_owns_it_so_we_act(dead: RunDirectory) -> None:
    answer = act_or_ask(dead, "prune", {}, lambda idle: f"done to {idle.run.run_id}")
    assert answer == Answer(ok=True, message=f"done to {dead.run_id}")
    assert pending(dead.control) == []


def test_its_owner_is_asked(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        clock = Clock(at={2: serve(writer, ok=True, message="done by the trainer")})
        answer = act_or_ask(
            writer.run, "prune", {}, lambda _: pytest.fail("acted"), patience=clock.patience()
        )
        assert answer == Answer(ok=True, message="done by the trainer")


def test_an_owner_that_does_not_answer_is_not_left_a_request(dead: RunDirectory) -> None:
    lock = RunLock(dead.lock_path)
    lock.acquire()
    with pytest.raises(RunError, match="has not answered within 20 s; the request was withdrawn"):
        act_or_ask(dead, "prune", {}, lambda _: pytest.fail("acted"), patience=Clock().patience())
    lock.release()
    assert pending(dead.control) == []


def test_the_lock_is_held_while_we_act_and_given_back(dead: RunDirectory) -> None:
    with hold_if_idle(dead) as idle:
        assert idle is not None
        with hold_if_idle(dead) as second:
            assert second is None
    with hold_if_idle(dead) as again:
        assert again is not None


# -- ends and conditions -----------------------------------------------------------------------


def test_a_run_has_ended_once_its_lock_is_free(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path)
    clock = Clock(at={3: lambda: writer.finish("cancelled")})
    state = wait_until_ended(writer.run, clock.patience())
    assert state is not None
    assert (state.status, clock.pauses) == ("cancelled", 3)


def test_a_run_that_does_not_end(tmp_path: Path) -> None:
    with RunWriter(tmp_path) as writer:
        assert wait_until_ended(writer.run, Clock().patience()) is None


def test_a_condition_is_looked_at_until_it_holds_or_time_is_up() -> None:
    clock, answers = Clock(), iter([None, False, 0])
    assert wait_for(lambda: next(answers), clock.patience()) == 0
    assert clock.pauses == 2
    assert wait_for(lambda: None, clock.patience(timeout=3.0)) is None
    assert clock.pauses == 5
    assert wait_for(lambda: None, Clock(leave_at=1).patience()) is None


def test_the_run_directory_of_a_new_run_is_nobodys(tmp_path: Path) -> None:
    with hold_if_idle(create_run(tmp_path, "x")) as idle:
        assert idle is not None
        assert not idle.has_state
