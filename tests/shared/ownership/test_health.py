"""What a run is really doing, with real processes living, ending and being killed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from shared.ownership.health import STALLED_AFTER, Health, observe
from shared.ownership.heartbeat import DEAD_AFTER, SILENT_AFTER, BeatWatch, read_beat
from shared.ownership.lock import RunLock
from shared.ownership.process import this_process
from shared.run.directory import RunDirectory, create_run
from shared.run.records import RunState

TRAINER = """
import sys
from shared.run.directory import RunDirectory
from pathlib import Path
from shared.run_writer import RunWriter
with RunWriter(run=RunDirectory(Path(sys.argv[1])), max_steps=10) as run:
    run.log(1, loss=2.0)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        run.set_status(line.strip())
        print("done", flush=True)
"""

#: Its wall clock is set in mid-run.
SET_CLOCK = """
import sys, time
from pathlib import Path
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
real, ahead = time.time, 0
time.time = lambda: real() + ahead
with RunWriter(run=RunDirectory(Path(sys.argv[1])), max_steps=10) as run:
    run.log(1, loss=2.0)
    run.log(2, loss=2.0)
    print("ready", flush=True)
    sys.stdin.readline()
    ahead = int(sys.argv[2])
    run.log(3, loss=2.0)
    print("done", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path, "x")


def look(run: RunDirectory, now: float | None = None) -> Health:
    return observe(run, run.read_state() or RunState(), now)


def put_beat(run: RunDirectory, **changes: object) -> None:
    now = time.time()
    beat = {"time": now, "step": 5, "step_time": now, "step_seconds": 0.1}
    run.heartbeat_path.write_text(
        json.dumps({**dataclasses.asdict(this_process()), **beat, **changes})
    )


def put_state(run: RunDirectory, status: str) -> None:
    state = RunState(run_id=run.run_id, status=status, host="h\x1b", pid=77)
    run.state_path.write_text(json.dumps(state.to_json()))


def test_a_child_runs_pauses_and_is_killed(run: RunDirectory, spawn) -> None:
    child = spawn(TRAINER, run.path)
    assert child.stdout.readline() == "ready\n"
    assert look(run) == Health("running", alive=True)
    child.stdin.write("paused\n")
    child.stdin.flush()
    assert child.stdout.readline() == "done\n"
    assert look(run) == Health("paused", alive=True)
    assert look(run, time.time() + 10_000).status == "paused"  # a pause is no stall
    child.kill()
    child.wait()
    health = look(run)
    assert (health.status, health.alive) == ("crashed", False)
    assert health.reason.startswith(f"process {child.pid} on {os.uname().nodename} is gone")


def test_a_child_completes(run: RunDirectory, spawn) -> None:
    child = spawn(TRAINER, run.path)
    child.communicate("end\n", timeout=240)
    assert look(run) == Health("completed", alive=False)


def test_a_resumed_run_is_never_taken_for_crashed_while_it_starts(
    run: RunDirectory, spawn, wait_until
) -> None:
    child = spawn(TRAINER, run.path)
    child.stdout.readline()
    child.kill()
    child.wait()
    assert look(run).status == "crashed"
    again = spawn(TRAINER, run.path)
    wait_until(lambda: (run.read_state() or RunState()).attempt == 2)
    assert look(run).alive
    again.communicate("end\n", timeout=240)
    assert look(run).status == "completed"


def test_a_run_without_steps_for_long_is_stalled(run: RunDirectory) -> None:
    lock = RunLock(run.lock_path)
    lock.acquire()
    put_state(run, "running")
    now = time.time()
    put_beat(run, step_time=now - STALLED_AFTER + 1)
    assert look(run, now).status == "running"
    put_beat(run, step_time=now - STALLED_AFTER - 1)
    assert look(run, now) == Health("stalled", alive=True, reason="no step for 31s")
    put_beat(run, step_time=now - 100, step_seconds=20)
    assert look(run, now).status == "running"  # its steps take that long
    put_beat(run, step_time=now - 201, step_seconds=20)
    assert look(run, now).status == "stalled"
    lock.release()
    assert look(run, now).status == "crashed"


@pytest.mark.parametrize("status", ["initializing", "running", "paused", "stopping"])
def test_another_host_lives_as_long_as_it_beats(run: RunDirectory, status: str) -> None:
    put_state(run, status)
    now = time.time()
    put_beat(run, host="elsewhere", time=now - DEAD_AFTER + 1)
    assert look(run, now) == Health(status, alive=True)
    put_beat(run, host="elsewhere", time=now - DEAD_AFTER - 1)
    health = look(run, now)
    assert (health.status, health.alive) == ("crashed", False)
    assert "\x1b" not in health.reason


@pytest.mark.parametrize("change", [{"boot": "before"}, {"started": 1.0}, {"pid": 2**22 + 1}])
def test_a_process_of_another_boot_or_a_reused_number_is_gone(
    run: RunDirectory, change: dict[str, object]
) -> None:
    put_state(run, "running")
    put_beat(run, **change)
    assert look(run).status == "crashed"


def test_a_held_lock_and_a_fresh_beat_count_where_the_number_means_nothing(
    run: RunDirectory,
) -> None:
    """A container with the host's name and numbers of its own."""
    lock = RunLock(run.lock_path)
    lock.acquire()
    put_state(run, "running")
    now = time.time()
    put_beat(run, pid=2**22 + 1)
    assert look(run, now).alive
    assert not look(run, now + DEAD_AFTER + 1).alive  # a child that inherited the lock
    lock.release()
    assert not look(run, now).alive


def test_without_a_heartbeat_the_lock_decides(run: RunDirectory) -> None:
    put_state(run, "running")
    assert look(run).status == "crashed"
    lock = RunLock(run.lock_path)
    lock.acquire()
    assert look(run) == Health("running", alive=True)
    lock.release()


def test_an_ended_run_keeps_its_status_and_a_missing_one_is_queued(run: RunDirectory) -> None:
    assert look(run) == Health("queued", alive=False)
    for status in ("completed", "failed", "cancelled", "preempted", "queued", "anything"):
        put_state(run, status)
        assert look(run) == Health(status, alive=False)


@pytest.mark.parametrize("time_", [1e300, -1e300, "nan", "inf", 0])
def test_impossible_times_are_no_trouble(run: RunDirectory, time_: object) -> None:
    put_state(run, "running")
    put_beat(run, time=time_, step_time=time_, pid=0)
    assert look(run).status == "crashed"
    put_beat(run, time=time_, step_time=time_)
    lock = RunLock(run.lock_path)
    lock.acquire()
    assert look(run).alive
    lock.release()


# -- stopped and silent --------------------------------------------------------------------------


def test_a_stopped_process_is_stalled_at_once_and_recovers(
    run: RunDirectory, spawn, wait_until
) -> None:
    child = spawn(TRAINER, run.path)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGSTOP)
    health = wait_until(lambda: (h := look(run)).status == "stalled" and h)
    assert health.alive
    # Not "no sign of life": it was seen at once, not after so many seconds of silence.
    assert health.reason.startswith("stopped by a signal (SIGSTOP")
    assert f"kill -CONT {child.pid}" in health.reason
    child.send_signal(signal.SIGCONT)
    wait_until(lambda: look(run) == Health("running", alive=True))
    child.communicate("end\n", timeout=240)
    assert look(run) == Health("completed", alive=False)


@pytest.mark.parametrize("status", ["initializing", "running", "paused", "stopping"])
def test_who_beats_no_more_but_lives_is_stalled(run: RunDirectory, status: str) -> None:
    lock = RunLock(run.lock_path)
    lock.acquire()
    put_state(run, status)
    now = time.time()
    put_beat(run, time=now - SILENT_AFTER + 1, idle_seconds=0.1)
    assert look(run, now) == Health(status, alive=True)
    put_beat(run, time=now - SILENT_AFTER - 2, idle_seconds=0.1)
    assert look(run, now) == Health("stalled", alive=True, reason="no heartbeat for 7s")
    put_beat(run, time=now - SILENT_AFTER - 2)  # a writer that beats only with its steps
    assert look(run, now).status == status
    lock.release()


# -- clocks that are set -------------------------------------------------------------------------


@pytest.mark.parametrize("day", [-86_400, 86_400])
def test_a_clock_that_is_set_changes_nothing_on_one_host(
    run: RunDirectory, spawn, wait_until, day: int
) -> None:
    """Neither that of the reader, nor that of the writer, nor the boot time reckoned from it."""
    child = spawn(SET_CLOCK, run.path, day)
    assert child.stdout.readline() == "ready\n"
    for now in (None, time.time() + day, time.time() - day):
        assert look(run, now) == Health("running", alive=True)
    child.stdin.write("set\n")
    child.stdin.flush()
    assert child.stdout.readline() == "done\n"
    wait_until(lambda: abs(read_beat(run.heartbeat_path).time - time.time() - day) < 60)
    for now in (None, time.time() + day, time.time() - day):
        assert look(run, now) == Health("running", alive=True)
    state = run.read_state()
    assert state is not None
    assert state.eta_seconds is None or state.eta_seconds >= 0
    child.kill()
    child.wait()
    assert look(run, time.time() + day).status == "crashed"


def test_idleness_is_told_by_the_monotonic_clock(run: RunDirectory) -> None:
    lock = RunLock(run.lock_path)
    lock.acquire()
    put_state(run, "running")
    now = time.time()
    here = {"monotonic": time.monotonic(), "step_seconds": 0.1}
    for set_clock in (-86_400, 0, 86_400):
        put_beat(run, time=now, step_time=now + set_clock, idle_seconds=1.0, **here)
        assert look(run, now) == Health("running", alive=True)
        put_beat(run, time=now, step_time=now + set_clock, idle_seconds=40.0, **here)
        health = look(run, now + set_clock)
        assert (health.status, health.alive) == ("stalled", True)
        assert re.fullmatch(r"no step for (\d{2}s|\d+m\d*s?)", health.reason)
    lock.release()


@pytest.mark.parametrize("skew", [-86_400, 86_400])
def test_a_reader_that_stays_sees_through_the_clock_of_another_host(
    run: RunDirectory, skew: int
) -> None:
    put_state(run, "running")
    tick = [0.0]
    watch = BeatWatch(clock=lambda: tick[0])

    def seen(beaten: float) -> Health:
        now = time.time()
        put_beat(run, host="elsewhere", boot="b", time=now + skew + beaten, idle_seconds=0.0)
        return observe(run, run.read_state() or RunState(), now, watch)

    seen(0)
    tick[0] += 1
    assert seen(1) == Health("running", alive=True)
    before = run.heartbeat_path.read_bytes()
    tick[0] += DEAD_AFTER - 1
    assert seen(2) == Health("running", alive=True)
    assert run.heartbeat_path.read_bytes() != before
    tick[0] += DEAD_AFTER + 1
    health = observe(run, run.read_state() or RunState(), time.time(), watch)
    assert (health.status, health.alive) == ("crashed", False)
