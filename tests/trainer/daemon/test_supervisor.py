"""Runs under care: real worker processes, which write a run's files and train nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from shared.control.idle_run import IdleRun
from shared.control.requests import submit
from shared.files import write_json
from shared.ownership.health import observe
from shared.ownership.lock import RunLock
from shared.ownership.process import host_name
from shared.run_writer import RunWriter
from tests.trainer.daemon.conftest import (
    House,
    ask,
    events_of,
    starts_of,
    state_of,
)
from trainer.daemon.gpus import GpuDevice

CRASH = {"refuse": 1, "words": "bad luck"}


def kinds(run, *wanted: str) -> list[str]:  # type: ignore[no-untyped-def]
    from shared.run.record_lines import read_records

    return [e["event"] for e in read_records(run.events_path) if e["event"] in wanted]


# -- starting ----------------------------------------------------------------------------


def test_a_queued_run_is_started_and_let_go_at_its_end(house: House) -> None:
    run = house.run()
    state = house.until_left_alone(run)
    assert (state.status, state.attempt, state.supervised) == ("completed", 1, True)
    assert starts_of(run) == ["-:1"]
    assert not house.supervisor.queue()
    assert json.loads((house.runs_dir / ".daemon" / host_name() / "runs.json").read_text()) == {
        "runs": {}
    }


def test_a_run_that_somebody_else_is_about_to_start_is_not_touched(house: House) -> None:
    run = house.run(supervised=False)
    last = house.run("last")
    house.until_left_alone(last)
    assert starts_of(run) == []


def test_no_more_at_once_than_allowed_and_the_oldest_first(house: House) -> None:
    house.supervise(max_runs=2)
    now = time.time()
    runs = [house.run(f"r{n}", {"wait": True}, updated_at=now - n) for n in range(4)]
    house.until(lambda: all(starts_of(r) for r in runs[2:]))
    for _ in range(5):
        house.supervisor.tick()
    assert house.supervisor.queue() == [runs[1].run_id, runs[0].run_id]
    assert not starts_of(runs[0])
    assert not starts_of(runs[1])
    (runs[3].path / "go").touch()
    house.until(lambda: starts_of(runs[1]))
    assert not starts_of(runs[0])
    for run in runs:
        (run.path / "go").touch()
    house.until_left_alone(runs[0])
    assert all(state_of(r).status == "completed" for r in runs)


def test_no_more_of_a_group_at_once_than_it_allows(house: House) -> None:
    house.supervise()
    now = time.time()
    first = house.run("first", {"wait": True}, group="g", group_limit=1, updated_at=now)
    second = house.run("second", group="g", group_limit=1, updated_at=now + 1)
    dead, other = house.dead("dead", group="g", group_limit=1), house.run("other")
    house.until(lambda: starts_of(first) and starts_of(other))
    assert not starts_of(second), "the run behind it went first"
    answer = ask(dead, "resume")
    assert house.until(answer)["message"] == "queued: at most 1 run of group g at the same time"
    house.supervise()  # a new daemon counts what it finds at work
    house.supervisor.tick()
    assert not starts_of(second)
    (first.path / "go").touch()
    for run in (second, dead):
        house.until(lambda run=run: state_of(run).status == "completed")


def test_each_gets_a_gpu_of_its_own_and_keeps_it(house: House, quick: None) -> None:
    gpus = (GpuDevice("GPU-a"), GpuDevice("GPU-b", used=5))
    house.supervise(gpus=lambda: gpus)
    kill = {"kill": signal.SIGKILL, "wait": True}
    first = house.run("first", kill, {}, config="train: {device: auto}")
    second = house.run("second", kill, {}, config="train: {device: cuda}", updated_at=1e12)
    third = house.run("third", config="train: {device: auto}", updated_at=2e12)
    house.until(lambda: starts_of(first) and starts_of(second))
    report = house.supervisor.report()
    assert [report["runs"][r.run_id]["gpu"] for r in (first, second)] == [0, 1]
    assert report["queue"] == [third.run_id]
    (second.path / "go").touch()
    house.until_left_alone(second)
    assert starts_of(second) == ["GPU-b:1", "GPU-b:1"], "a restart comes back to its GPU"
    house.until_left_alone(third)
    assert starts_of(third) == ["GPU-b:1"]
    (first.path / "go").touch()
    house.until_left_alone(first)
    assert starts_of(first) == ["GPU-a:1", "GPU-a:1"]


def test_a_run_that_names_its_gpu_sees_them_all(house: House) -> None:
    house.supervise(gpus=lambda: (GpuDevice("GPU-a"), GpuDevice("GPU-b")))
    run = house.run("numbered", {"wait": True}, config="train: {device: 'cuda:1'}")
    house.until(lambda: starts_of(run))
    assert starts_of(run) == ["-:1"]
    assert house.supervisor.cares[run.run_id].gpu == 1
    (run.path / "go").touch()
    house.until_left_alone(run)


def test_of_daemons_on_several_hosts_one_starts_a_run(house: House) -> None:
    one = house.supervise(host="one", others=lambda: {"two"})
    two = house.supervise(host="two", others=lambda: {"one"})
    runs = [house.run(f"r{n}", {"wait": True}) for n in range(6)]
    one.tick()
    # A worker that has begun says where it is itself.
    assert {state_of(r).host for r in runs} <= {"one", host_name()}
    for _ in range(20):
        one.tick()
        two.tick()
    assert len(one.cares) == 6
    assert not two.cares
    house.until(lambda: one.tick() or all(starts_of(r) for r in runs))
    assert [len(starts_of(r)) for r in runs] == [1] * 6


def test_a_run_that_another_daemon_claims_in_the_same_moment_is_left_to_it(house: House) -> None:
    one = house.supervise(host="one", others=lambda: {"two"})
    run = house.run("r", {"wait": True})

    def meanwhile() -> tuple[GpuDevice, ...]:
        """Asked for when the other one has seen the run in the queue, and before it starts it."""
        one.tick()
        return ()

    two = house.supervise(host="two", others=lambda: {"one"}, gpus=meanwhile)
    two.tick()
    assert set(one.cares) == {run.run_id}
    assert not two.cares
    assert len(house.children.processes) == 1


def test_a_claim_of_a_host_without_a_daemon_does_not_hold(house: House) -> None:
    run = house.run(host="gone")
    house.supervise(others=lambda: {"gone"})
    for _ in range(5):
        house.supervisor.tick()
    assert not house.supervisor.cares
    assert not house.supervisor.queue()
    house.supervise()
    assert house.until_left_alone(run).status == "completed"


# -- restarting --------------------------------------------------------------------------


def test_a_killed_worker_is_restarted_and_its_end_recorded(house: House, quick: None) -> None:
    run = house.run("killed", {"kill": signal.SIGKILL, "step": 5}, {"step": 9})
    state = house.until_left_alone(run)
    assert (state.status, state.attempt, state.current_step) == ("completed", 2, 9)
    [crashed] = events_of(run, "crashed")
    assert crashed["message"] == "killed by SIGKILL at step 5"
    assert (crashed["signal"], crashed["code"], crashed["attempt"]) == (9, -9, 1)
    [restarting] = events_of(run, "restarting")
    assert restarting["restarts"] == 1
    assert restarting["message"] == "starting again in 0 s (1 of 5)"
    assert kinds(run, "crashed", "restarting", "started") == [
        "started",
        "crashed",
        "restarting",
        "started",
    ]


def test_a_worker_that_always_fails_is_given_up_with_the_reason(house: House, quick: None) -> None:
    house.supervise(max_restarts=2)
    plan = {"step": 3, "end": "failed", "code": 1, "reason": "the disk is on fire"}
    run = house.run("fails", plan)
    state = house.until_left_alone(run)
    assert state.status == "failed"
    assert state.exit is not None
    assert state.exit.code == 1
    assert re.fullmatch(
        r"given up after 3 attempts in \d+ min without a new checkpoint; the last: exit code 1 at "
        "step 3: the disk is on fire",
        state.exit.reason,
    )
    assert len(starts_of(run)) == 3
    assert len(events_of(run, "crashed")) == 3
    [gave_up] = events_of(run, "gave_up")
    assert gave_up["message"] == state.exit.reason
    for _ in range(5):
        house.supervisor.tick()
    assert len(starts_of(run)) == 3


def test_a_segfault_at_the_start_is_given_up_with_its_signal(house: House, quick: None) -> None:
    house.supervise(max_restarts=1)
    run = house.run("segfault", {"kill": signal.SIGSEGV, "step": 1})
    state = house.until_left_alone(run)
    assert state.exit is not None
    assert state.exit.code == 128 + signal.SIGSEGV
    assert "2 attempts" in state.exit.reason
    assert "killed by SIGSEGV at step 1" in state.exit.reason


def test_progress_lets_it_go_on_for_ever(house: House, quick: None) -> None:
    house.supervise(max_restarts=1)
    plans = [{"step": n, "save": n, "kill": signal.SIGKILL} for n in range(1, 5)]
    run = house.run("slow", *plans, {"step": 9})
    assert house.until_left_alone(run).status == "completed"
    assert len(starts_of(run)) == 5
    assert [e["restarts"] for e in events_of(run, "restarting")] == [1, 1, 1, 1]


def test_a_preempted_run_is_no_crash(house: House, quick: None) -> None:
    house.supervise(max_restarts=1)
    plan = {"end": "preempted", "code": 75}
    plans = [{**plan, "step": n, "save": n} for n in range(1, 5)]
    run = house.run("preempted", *plans, {"step": 9})
    assert house.until_left_alone(run).status == "completed"
    assert not events_of(run, "crashed")
    assert [e["restarts"] for e in events_of(run, "restarting")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "plan",
    [
        {"end": "failed", "code": 2, "reason": "wrong data"},
        {"end": "failed", "code": 1, "reason": "diverged", "final": True},
        {"end": "cancelled", "code": 0},
        {"end": "completed", "code": 0},
    ],
)
def test_what_would_end_the_same_way_is_not_restarted(house: House, plan: dict) -> None:  # type: ignore[type-arg]
    run = house.run("once", plan)
    state = house.until_left_alone(run)
    assert state.status == plan["end"]
    assert len(starts_of(run)) == 1
    assert not kinds(run, "crashed", "restarting", "gave_up")


def test_a_run_that_is_refused_at_the_start_does_not_stay_queued(house: House) -> None:
    run = house.run("refused", {"refuse": 2, "words": "trainer: there is no data"})
    state = house.until_left_alone(run)
    assert state.status == "failed"
    assert state.exit is not None
    assert state.exit.code == 2
    assert state.exit.reason.endswith("trainer: there is no data")
    assert state.exit.last_log_lines == ("first line", "trainer: there is no data")


def test_want_of_memory_is_named_and_the_next_attempt_takes_half(house: House, quick: None) -> None:
    counts = iter(range(100))
    house.supervise(count_oom_kills=lambda: {"vmstat": next(counts), "boot x": 0})
    plan = {"kill": signal.SIGKILL, "step": 5}
    run = house.run("large", plan, plan, {})
    state = house.until_left_alone(run)
    assert state.micro_batch == 2
    assert [e["message"] for e in events_of(run, "crashed")] == [
        "killed by SIGKILL at step 5, probably by the kernel because it was out of memory; "
        f"the next attempt uses a micro-batch of {size}"
        for size in (4, 2)
    ]


# -- adopting ----------------------------------------------------------------------------


def test_a_new_daemon_adopts_what_the_old_one_left(house: House, quick: None) -> None:
    """The old one is killed: its children live on, and are no children of the new one."""
    living = house.run("living", {"wait": True, "step": 4}, {"step": 8})
    dying = house.run("dying", {"wait": True, "step": 4, "kill": signal.SIGKILL}, {"step": 8})
    old = house.supervisor
    house.until(
        lambda: all(c.phase == "running" for c in old.cares.values()) and len(old.cares) > 1
    )
    workers = {r: old.cares[r.run_id].worker.pid for r in (living, dying)}  # type: ignore[union-attr]
    (dying.path / "go").touch()
    house.children.processes[[p.pid for p in house.children.processes].index(workers[dying])].wait()
    new = house.supervise()
    assert set(new.cares) == {living.run_id, dying.run_id}
    state = house.until_left_alone(dying)
    assert (state.status, state.attempt) == ("completed", 2)
    [crashed] = events_of(dying, "crashed")
    assert crashed["message"] == "gone without an exit record at step 4"
    assert crashed["signal"] is None
    assert starts_of(living) == ["-:1"]
    (living.path / "go").touch()
    house.children.processes[
        [p.pid for p in house.children.processes].index(workers[living])
    ].wait()
    assert house.until_left_alone(living).status == "completed"


def test_a_detached_run_is_adopted_and_a_foreground_one_is_not(house: House) -> None:
    with (
        RunWriter(house.runs_dir, "detached", supervised=True) as detached,
        RunWriter(house.runs_dir, "foreground", supervised=False) as foreground,
    ):
        house.until(lambda: detached.run.run_id in house.supervisor.cares)
        assert house.supervisor.cares[detached.run.run_id].worker.pid == os.getpid()  # type: ignore[union-attr]
        for _ in range(5):
            house.supervisor.tick()
        assert set(house.supervisor.cares) == {detached.run.run_id}
        assert foreground.state.status == "running"


def test_a_dead_run_that_nobody_put_under_care_is_left_alone(house: House) -> None:
    dead = house.dead()
    house.until_left_alone(house.run("other"))
    assert not starts_of(dead)
    assert state_of(dead).status == "running"


def test_a_run_that_a_person_continues_is_theirs(house: House, slow: None) -> None:
    run = house.run("taken", {"kill": signal.SIGKILL, "step": 2})
    house.until(lambda: run.run_id in house.supervisor.cares and events_of(run, "restarting"))
    with RunWriter(run=run, supervised=False) as writer:
        house.later += 600
        house.until(lambda: run.run_id not in house.supervisor.cares)
        writer.log(3, loss=1.0)
    assert state_of(run).status == "completed"
    assert len(starts_of(run)) == 1


# -- requests ----------------------------------------------------------------------------


def test_a_stop_while_it_waits_for_its_restart_is_the_end(house: House, slow: None) -> None:
    run = house.run("waits", {"kill": signal.SIGKILL, "step": 2})
    house.until(lambda: events_of(run, "restarting"))
    report = house.supervisor.report()["runs"][run.run_id]
    assert report["status"] == "waiting"
    assert report["next_start"] > time.time() + 200
    answer = ask(run, "stop")
    assert house.until(answer)["ok"]
    state = state_of(run)
    assert state.status == "cancelled"
    assert not observe(run, state).alive
    house.until(lambda: not house.supervisor.cares)
    house.supervise()
    for _ in range(5):
        house.supervisor.tick()
    assert len(starts_of(run)) == 1


def test_a_stop_that_the_worker_did_not_live_to_hear_is_heard(house: House, quick: None) -> None:
    run = house.run("dies", {"wait": True, "kill": signal.SIGKILL}, {})
    house.until(lambda: starts_of(run) and state_of(run).status == "running")
    os.kill(state_of(run).pid, signal.SIGSTOP)
    answer = ask(run, "stop")
    os.kill(state_of(run).pid, signal.SIGKILL)
    assert house.until(answer)["ok"]
    assert house.until_left_alone(run).status == "cancelled"
    assert len(starts_of(run)) == 1


def test_a_queued_run_is_taken_out_of_the_queue(house: House) -> None:
    house.supervise(max_runs=1)
    house.run("first", {"wait": True}, updated_at=1.0)
    run = house.run("second")
    house.until(lambda: house.supervisor.queue() == [run.run_id])
    answer = ask(run, "cancel")
    assert house.until(answer)["message"] == "taken out of the queue"
    assert state_of(run).status == "cancelled"
    house.until(lambda: not house.supervisor.queue())
    assert not starts_of(run)


def test_resume_starts_a_dead_run_and_leaves_the_answer_to_its_trainer(house: House) -> None:
    run = house.dead("dead", {"wait": True})
    answer = ask(run, "resume")
    assert house.until(answer)["message"] == "resume served"
    assert house.supervisor.cares[run.run_id].phase in ("starting", "running")
    (run.path / "go").touch()
    assert house.until_left_alone(run).status == "completed"


def test_resume_of_a_run_that_does_not_start_is_answered_with_its_last_words(house: House) -> None:
    run = house.dead("spoilt", {"refuse": 2, "words": "trainer: no such data"}, status="cancelled")
    answer = ask(run, "resume")
    event = house.until(answer)
    assert not event["ok"]
    assert event["message"] == "the trainer ended: exit code 2 at step 7: trainer: no such data"
    assert house.until_left_alone(run).status == "cancelled", "as it was before"


def test_resume_waits_for_room(house: House) -> None:
    house.supervise(max_runs=1)
    first = house.run("first", {"wait": True})
    house.until(lambda: starts_of(first))
    run = house.dead()
    answer = ask(run, "resume")
    assert house.until(answer)["message"] == "queued: 1 of at most 1 run training"
    assert state_of(run).status == "queued"
    (first.path / "go").touch()
    assert house.until_left_alone(run).status == "completed"


@pytest.mark.parametrize(
    ("action", "arguments", "words"),
    [
        ("pause", {}, "no trainer to pause it"),
        ("checkpoint", {}, "no trainer to checkpoint it"),
        ("stop", {}, "there is no process to stop"),
        ("explode\x1b[2J", {}, "a daemon answers cancel, evaluated, prune, resume, stop"),
        ("prune", {"nonsense": 1}, "not a valid prune request"),
        ("", {}, "unknown action ''"),
    ],
)
def test_what_cannot_be_done_is_refused(
    house: House,
    action: str,
    arguments: dict,
    words: str,  # type: ignore[type-arg]
) -> None:
    run = house.dead()
    event = house.until(ask(run, action, **arguments))
    assert not event["ok"]
    assert words in event["message"]
    assert "\x1b" not in event["message"] + event["action"]
    assert not list(run.control.iterdir())
    assert not house.supervisor.cares
    assert not starts_of(run)


def test_a_completed_run_is_not_resumed(house: House) -> None:
    run = house.dead(status="completed")
    event = house.until(ask(run, "resume"))
    assert not event["ok"]
    assert "--max-steps" in event["message"]


def test_what_was_asked_long_ago_is_refused(house: House) -> None:
    run = house.dead()
    stale = time.time_ns() - 2 * 3600 * 10**9
    write_json(run.control / f"{stale:019d}-{'a' * 8}.json", {"action": "resume"})
    [event] = house.until(lambda: events_of(run, "answer"))
    assert not event["ok"]
    assert "requested 2h ago" in event["message"]
    assert not starts_of(run)


def test_requests_to_a_living_run_are_its_trainers(house: House) -> None:
    with RunWriter(house.runs_dir, "foreground") as writer:
        request = submit(writer.run.control, "stop")
        for _ in range(5):
            house.supervisor.tick()
        assert (writer.run.control / f"{request}.json").exists()


def test_the_daemon_of_the_runs_host_answers(house: House) -> None:
    run = house.dead(host="far")
    answer = ask(run, "pause")
    house.supervise(others=lambda: {"far"})
    for _ in range(5):
        house.supervisor.tick()
    assert answer() is None
    house.supervise()
    assert not house.until(answer)["ok"]


# -- trouble -----------------------------------------------------------------------------


def test_one_spoilt_run_does_not_stop_the_care_for_the_others(house: House) -> None:
    spoilt = house.run("a-spoilt", updated_at=1.0)
    spoilt.lock_path.mkdir()
    run = house.run("b-good")
    assert house.until_left_alone(run).status == "completed"
    assert sum("Is a directory" in line for line in house.said) == 1, "told once"
    spoilt.lock_path.rmdir()
    house.later += 60
    assert house.until_left_alone(spoilt).status == "completed"


def test_a_bug_in_the_care_for_one_run_does_not_stop_it_for_the_others(house: House) -> None:
    bad = house.run("a-bad", updated_at=1.0)
    good = house.run("b-good")
    house.children.broken.add(bad.run_id)
    assert house.until_left_alone(good).status == "completed"
    assert any("ZeroDivisionError" in line for line in house.said)


def test_a_deleted_run_is_forgotten(house: House, slow: None) -> None:
    waits = house.run("waits", {"kill": signal.SIGKILL})
    lives = house.run("lives", {"wait": True})
    house.until(lambda: events_of(waits, "restarting") and starts_of(lives))
    for process in house.children.processes:
        process.kill()
        process.wait()
    shutil.rmtree(waits.path)
    shutil.rmtree(lives.path)
    house.until(lambda: not house.supervisor.cares)


def test_a_run_that_is_locked_for_a_moment_is_tried_again(house: House, quick: None) -> None:
    run = house.run("locked")
    lock = RunLock(run.lock_path)
    lock.acquire()
    for _ in range(3):
        house.supervisor.tick()
    assert not starts_of(run)
    lock.release()
    assert house.until_left_alone(run).status == "completed"


def test_a_vanished_folder_is_told_and_waited_for(house: House) -> None:
    moved = house.runs_dir.with_name("moved")
    house.runs_dir.rename(moved)
    house.supervisor.tick()
    house.supervisor.tick()
    assert sum("cannot be read" in line for line in house.said) == 1
    moved.rename(house.runs_dir)
    assert house.until_left_alone(house.run()).status == "completed"


def test_draining_saves_and_the_next_daemon_goes_on(house: House, quick: None) -> None:
    house.supervise(max_runs=1)
    run = house.run("drained", {"wait": True}, {})
    queued = house.run("queued", updated_at=time.time() + 1e6)
    house.until(lambda: starts_of(run) and state_of(run).status == "running")
    assert house.supervisor.drain() == 1
    house.until(lambda: not house.supervisor.living())
    for _ in range(5):
        house.supervisor.tick()
    assert state_of(run).status == "preempted"
    assert not starts_of(queued)
    assert len(starts_of(run)) == 1
    house.supervise()
    assert house.until_left_alone(run).status == "completed"


def test_an_end_of_ours_looks_like_a_trainers(house: House) -> None:
    run = house.dead()
    run.log_path.write_text("one\ntwo\n")
    with IdleRun(run) as record:
        record.end("failed", 1, "because")
    state = state_of(run)
    assert state.exit is not None
    assert (state.exit.code, state.exit.reason) == (1, "because")
    assert state.exit.last_log_lines == ("one", "two")
    assert state.ended_at is not None
    [event] = events_of(run, "status")
    assert (event["status"], event["previous"], event["step"]) == ("failed", "running", 7)


def test_the_folder_of_the_daemons_is_no_run(house: House) -> None:
    from shared.run.directory import discover_runs

    house.until_left_alone(house.run())
    assert (house.runs_dir / ".daemon").is_dir()
    assert len(discover_runs(Path(house.runs_dir))) == 1
