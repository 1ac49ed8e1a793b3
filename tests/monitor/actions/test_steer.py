"""Acts say what became true, or why not."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from monitor.actions.steer import ask, resume, stop, stop_question, why_no_request
from monitor.data.scanner import RunScanner
from monitor.data.views import RunView
from shared.control.waiting import Patience
from shared.errors import RunError, UserError
from shared.files import read_json, write_json
from shared.json_text import Json
from shared.run.directory import RunDirectory
from shared.run.record_lines import read_records
from shared.run_writer import RunWriter
from tests.monitor.actions.conftest import Watch
from tests.monitor.support import metric_lines, write_run
from tests.trainer.daemon.conftest import House, starts_of
from tests.waiting import SECONDS


def look(run: RunDirectory) -> RunView:
    views = RunScanner(run.path.parent, time.time).scan()
    return next(v for v in views if v.run_id == run.run_id)


def test_a_crashed_run_is_launched(crashed_run: RunDirectory) -> None:
    started: list[RunDirectory] = []

    def launcher(run: RunDirectory) -> str:
        started.append(run)
        return "running"

    assert resume(look(crashed_run), launcher) == "crashed_1 is running again."
    assert started == [crashed_run]


@pytest.mark.parametrize("state", [None, {"status": "cancelled"}])
def test_another_program_s_run_is_not_launched(tmp_path: Path, state: Json | None) -> None:
    folder = write_run(tmp_path, "script", state or {}, metric_lines(4))
    if state is None:
        (folder / "run_state.json").unlink()
        os.utime(folder / "metrics.jsonl", (1, 1))
    with pytest.raises(UserError, match="another program trains it"):
        resume(look(RunDirectory(folder)), lambda _: pytest.fail("launched"))


def test_a_live_run_is_not_launched(tmp_path: Path) -> None:
    with (
        RunWriter(tmp_path, name="live") as writer,
        pytest.raises(UserError, match="nothing to resume"),
    ):
        resume(look(writer.run), lambda _: pytest.fail("launched"))


def test_a_run_somebody_else_resumed_meanwhile_is_not_launched(crashed_run: RunDirectory) -> None:
    stale = look(crashed_run)
    assert stale.status == "crashed"
    with RunWriter(run=crashed_run), pytest.raises(UserError, match="nothing to resume"):
        resume(stale, lambda _: pytest.fail("launched"))


def test_a_completed_run_is_not_launched(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "done", {"status": "completed"})
    with pytest.raises(UserError, match="completed"):
        resume(look(RunDirectory(folder)), lambda _: pytest.fail("launched"))


def answer_next(writer: RunWriter, *, ok: bool, message: str) -> threading.Thread:
    def serve() -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for found in writer.take_requests():
                writer.answer(found, ok=ok, message=message)
                return

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_the_answer_is_the_trainers(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="live") as writer:
        view = look(writer.run)
        serving = answer_next(writer, ok=True, message="paused at step 5")
        assert ask(view, "pause").endswith("paused at step 5")
        serving.join()
        serving = answer_next(writer, ok=False, message="disk\x1b[2J full")
        with pytest.raises(RunError, match=r"disk\[2J full"):
            ask(view, "checkpoint")
        serving.join()


def test_a_run_that_ends_is_told_to_have_ended(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, name="live")
    view = look(writer.run)
    ending = threading.Thread(target=writer.finish, args=("cancelled",))

    def leave(seconds: float) -> bool:
        if not ending.ident:
            ending.start()
        time.sleep(seconds)
        return False

    with pytest.raises(RunError, match="the run ended"):
        ask(view, "checkpoint", give_up=leave)
    ending.join()


def test_waiting_ends_with_patience_or_leaving(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="live") as writer:
        view = look(writer.run)
        with pytest.raises(RunError, match="not answered"):
            ask(view, "pause", patience=Patience(timeout=0.0))
        assert ask(view, "pause", give_up=lambda _: True) == ""


def test_nobody_is_asked_where_nobody_is(crashed_run: RunDirectory) -> None:
    view = look(crashed_run)
    assert "no trainer" in why_no_request(view, "stop")
    with pytest.raises(UserError, match="no trainer"):
        ask(view, "stop")
    assert not list(crashed_run.control.iterdir())


# -- resuming where it is at home -------------------------------------------------------


def never(_: RunDirectory) -> str:
    pytest.fail("launched")


def at_home_on(run: RunDirectory, host: str) -> None:
    write_json(run.state_path, {**(read_json(run.state_path) or {}), "host": host})


def test_a_run_of_another_host_is_not_started_here(crashed_run: RunDirectory) -> None:
    at_home_on(crashed_run, "gpu-7")
    with pytest.raises(UserError, match=r"last ran on gpu-7, .* \(trainer daemon --runs-dir"):
        resume(look(crashed_run), never)


def test_a_run_of_no_host_is_started_here(crashed_run: RunDirectory) -> None:
    at_home_on(crashed_run, "")
    assert resume(look(crashed_run), lambda _: "running").endswith("running again.")


def test_a_daemon_that_watches_starts_it_and_the_answer_is_true(
    house: House, watched: Watch
) -> None:
    run = house.dead("dead", {"wait": True})
    at_home_on(run, "gpu-7")
    with watched():
        told = resume(look(run), never)
        view = look(run)
        assert view.alive
        assert view.status == "running"
        assert told in (
            f"{run.run_id} is running again (attempt 2).",
            f"{run.run_id}: resume served",
        )
        (run.path / "go").touch()
        house_ends(house, run)
    assert starts_of(run) == ["-:1"]


def house_ends(house: House, run: RunDirectory) -> None:
    deadline = time.monotonic() + SECONDS
    while run.run_id in house.supervisor.cares:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_the_daemon_answers_is_told(house: House, watched: Watch) -> None:
    house.supervise(max_runs=1)
    first, second = house.dead("a", {"wait": True}), house.dead("b", {"wait": True})
    with watched():
        resume(look(first), never)
        assert "queued: 1 of at most 1 run training" in resume(look(second), never)
        assert resume(look(second), never).endswith("queued already; it starts when there is room.")
        assert "is cancelled" in stop(look(first))
        house_ends(house, first)
        assert stop(look(second)).startswith(second.run_id)
        house_ends(house, second)


def test_a_trainer_that_does_not_start_is_told(house: House, watched: Watch, slow: None) -> None:
    run = house.dead("bad", {"refuse": 2, "words": "no such data"})
    with watched(), pytest.raises(RunError, match="no such data"):
        resume(look(run), never)


def test_a_queued_run_without_a_daemon_says_who_would_start_it(house: House) -> None:
    with pytest.raises(UserError, match="there is no daemon to start it: trainer daemon"):
        resume(look(house.run("r")), never)


# -- stopping ----------------------------------------------------------------------------


def test_the_question_is_about_what_would_happen(house: House) -> None:
    with RunWriter(house.runs_dir, name="live") as writer:
        assert "saves a checkpoint" in stop_question(look(writer.run)).consequence
    assert "out of the queue" in stop_question(look(house.run("q"))).question
    assert "Give up the restart" in stop_question(look(house.dead("w"))).question
    with pytest.raises(UserError, match="there is no trainer to stop"):
        stop_question(look(house.run("done", status="completed")))


def test_stopped_is_told_when_it_has_ended(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, name="live")
    writer.set_status("running")
    view = look(writer.run)

    def serve() -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            for found in writer.take_requests():
                writer.answer(found, ok=True, message="stopping after step 0")
                time.sleep(0.2)  # the saving of a checkpoint
                writer.finish("cancelled")
                return

    thread = threading.Thread(target=serve)
    thread.start()
    assert stop(view) == f"{view.label} is cancelled at step 0."
    assert not look(writer.run).alive
    thread.join()


def test_a_queued_run_leaves_the_queue(house: House, watched: Watch) -> None:
    house.supervise(max_runs=1)
    house.run("busy", {"wait": True}, updated_at=1.0)
    waiting = house.run("r")
    with watched():
        deadline = time.monotonic() + SECONDS
        while not house.supervisor.cares:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "taken out of the queue" in stop(look(waiting))
        assert look(waiting).status == "cancelled"
    assert starts_of(waiting) == []


def test_a_run_that_waits_for_its_restart_is_not_started_again(
    house: House, watched: Watch, slow: None
) -> None:
    run = house.run("r", {"kill": signal.SIGKILL})
    with watched():
        deadline = time.monotonic() + SECONDS
        while not any(care.phase == "waiting" for care in house.supervisor.cares.values()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "it is not started again" in stop(look(run))
        assert look(run).status == "cancelled"
        assert not house.supervisor.cares


def test_a_queued_run_that_no_daemon_watches_is_cancelled_here(house: House) -> None:
    run = house.run("r")
    assert stop(look(run)).endswith("is cancelled: taken out of the queue by train-monitor.")
    state = run.read_state()
    assert state is not None
    assert (state.status, state.exit and state.exit.code) == ("cancelled", 0)
    assert [e["status"] for e in read_records(run.events_path)] == ["cancelled"]
    with pytest.raises(UserError, match="no trainer"):
        stop(look(run))


def test_a_run_that_somebody_is_about_to_start_is_left_alone(house: House) -> None:
    run = house.run("r", supervised=False)
    with pytest.raises(UserError, match="about to be started"):
        stop(look(run))
