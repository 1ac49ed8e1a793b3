"""What a run tells of itself while it works: stalls, a lost directory, records that wait."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shared.control.pulse import Pulse, Timings
from shared.files import AppendLog, write_json
from shared.ownership.watchdogs import BacklogWatch, DirectoryWatch, StallWatch
from shared.run.directory import RunDirectory
from shared.run.record_lines import read_records
from shared.run.records import RunState
from shared.run_writer import RunWriter

Wait = Callable[..., Any]


QUICK = Timings(look=0.02, state=0.02, beat=0.02)


def events_of(run: RunDirectory, *kinds: str) -> list[dict[str, Any]]:
    return [e for e in read_records(run.events_path) if e["event"] in kinds]


def state_of(run: RunDirectory) -> RunState:
    return run.read_state() or RunState()


# -- who listens ---------------------------------------------------------------------------------


def test_the_listener_hears_every_event_and_breaks_nothing(tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []

    def listen(record: dict[str, Any]) -> None:
        heard.append(record)
        raise RuntimeError("a bad listener")

    with RunWriter(tmp_path, listener=listen) as writer:
        writer.event("new_best", metric="val_loss", value=1.5)
        writer.alarm("disk", "full")
    assert [h["event"] for h in heard] == ["started", "status", "new_best", "alarm", "status"]
    assert heard[2]["value"] == 1.5
    assert heard[-1]["status"] == "completed"
    assert [e["event"] for e in read_records(writer.run.events_path)] == [h["event"] for h in heard]


# -- stalls --------------------------------------------------------------------------------------


def test_a_stall_is_told_once_and_so_is_its_end() -> None:
    clock = [1000.0]
    watch = StallWatch(clock=lambda: clock[0])

    def look(idle: float, usual: float | None = 0.1, *, running: bool = True) -> str | None:
        turn = watch.look(running=running, idle=idle, step_seconds=usual)
        return turn and turn.message

    assert look(29) is None
    assert look(31, running=False) is None  # a pause is no stall
    assert look(100, usual=20) is None  # its steps take that long
    assert look(31) == "no step for 31s"
    clock[0] += 60
    assert look(91) is None
    clock[0] += 5
    assert look(1.0) == "progress resumed after 1m35s"
    assert look(1.0) is None
    assert look(40) == "no step for 40s"
    assert look(0.0, running=False) is not None


def test_a_run_tells_of_its_own_stall(tmp_path: Path, wait_until: Wait) -> None:
    with RunWriter(tmp_path, timings=replace(QUICK, stalled=0.15)) as writer:
        stalled = wait_until(lambda: events_of(writer.run, "stalled"))
        assert stalled[0]["message"].startswith("no step for")
        writer.progress()
        wait_until(lambda: events_of(writer.run, "stall_over"))
        writer.set_status("paused")
        kinds = [e["event"] for e in events_of(writer.run, "stalled", "stall_over")]
    assert kinds[:2] == ["stalled", "stall_over"]


# -- the directory -------------------------------------------------------------------------------


def test_a_directory_that_goes_and_comes_back(
    tmp_path: Path,
    wait_until: Wait,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with RunWriter(tmp_path / "runs", max_steps=9, timings=QUICK) as writer:
        run, away = writer.run, tmp_path / "away"
        writer.log(1, loss=1.0)
        assert (writer.directory_problem, writer.directory_lost_seconds) == ("", 0.0)
        run.path.rename(away)
        wait_until(lambda: writer.directory_problem)
        assert writer.directory_problem == f"The run directory {run.path} is gone"
        wait_until(lambda: writer.directory_lost_seconds > 0.05)
        assert "[ALARM] The run directory" in capsys.readouterr().out
        writer.log(2, loss=0.5)  # the open files are the moved ones
        writer.event("warning", message="still here")
        writer.set_status("paused")
        assert not run.path.exists()  # nobody makes it anew
        away.rename(run.path)
        wait_until(lambda: not writer.directory_problem)
        assert writer.directory_lost_seconds == 0.0
        wait_until(lambda: state_of(run).status == "paused" and not state_of(run).alarm)
    assert [r["step"] for r in read_records(run.metrics_path)] == [1, 2]
    alarms = events_of(run, "alarm", "alarm_over")
    assert [(e["event"], e["alarm"]) for e in alarms] == [
        ("alarm", "directory"),
        ("alarm_over", "directory"),
    ]
    assert state_of(run).status == "completed"


def test_a_directory_that_is_deleted_is_not_made_anew(tmp_path: Path, wait_until: Wait) -> None:
    writer = RunWriter(tmp_path, timings=QUICK)
    shutil.rmtree(writer.run.path)
    wait_until(lambda: "is gone" in writer.directory_problem)
    for step in range(5):
        writer.log(step, loss=1.0)
    with pytest.raises(OSError, match="No such file"):
        writer.finish("failed", 1, "its directory is gone")
    assert not writer.run.path.exists()


def test_a_stranger_in_its_place_gets_nothing(tmp_path: Path, wait_until: Wait) -> None:
    writer = RunWriter(tmp_path / "runs", timings=QUICK)
    run = writer.run
    run.path.rename(tmp_path / "away")
    run.path.mkdir()
    wait_until(lambda: "another directory is in its place" in writer.directory_problem)
    writer.log(1, loss=1.0)
    with pytest.raises(OSError, match="another directory"):
        writer.update(durable=True, current_phase="x")
    with pytest.raises(OSError, match="another directory"):
        writer.finish("completed")
    assert list(run.path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EIO, errno.ESTALE, errno.EACCES])
def test_a_directory_that_takes_no_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Wait, code: int
) -> None:
    broken = threading.Event()

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    def write(path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        if broken.is_set():
            fail()
        write_json(path, value, durable=durable)

    with RunWriter(tmp_path, timings=QUICK, write_state=write) as writer:
        with monkeypatch.context() as patch:
            patch.setattr("os.pwrite", fail)
            broken.set()
            writer.log(1, loss=1.0)
            wait_until(lambda: os.strerror(code) in writer.directory_problem)
            broken.clear()
        wait_until(lambda: not writer.directory_problem)
    assert not events_of(writer.run, "log")
    assert len(events_of(writer.run, "alarm")) == len(events_of(writer.run, "alarm_over")) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_permissions_that_were_taken_away(tmp_path: Path) -> None:
    watch = DirectoryWatch(tmp_path)
    assert watch.look(None) is None
    mode = stat.S_IMODE(tmp_path.stat().st_mode)
    tmp_path.chmod(0o500)
    try:
        turn = watch.look(None)
        assert turn is not None
        assert "permissions" in turn.message
    finally:
        tmp_path.chmod(mode)
    assert watch.look(None) is not None


def test_a_full_disk_is_no_lost_directory(tmp_path: Path) -> None:
    watch = DirectoryWatch(tmp_path)
    assert watch.look(OSError(errno.ENOSPC, "No space left on device")) is None
    watch.taken = True
    turn = watch.look(None)
    assert turn is not None
    assert "another process" in turn.message
    with pytest.raises(OSError, match="another process"):
        watch.check()


# -- records that wait ---------------------------------------------------------------------------


def test_waiting_records_are_told_after_a_while_and_written_by_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    log, watch = AppendLog(tmp_path / "log"), BacklogWatch(clock=lambda: clock[0])

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.write", fail)
        log.append(b"one")
        assert watch.look([log], None) is None
        clock[0] += 1
        assert watch.look([log], None) is None
        clock[0] += 1.5
        told = watch.look([log], None)
        assert told is not None
        assert "(No space left on device); they wait in memory" in told.message
        clock[0] += 100
        assert watch.look([log], None) is None
    over = watch.look([log], None)
    assert over is not None
    assert over.over
    assert (tmp_path / "log").read_bytes() == b"one\n"
    assert watch.look([log], None) is None
    failure = OSError(errno.EDQUOT, "Disk quota exceeded")
    assert watch.look([log], failure) is None  # the state alone cannot be written
    clock[0] += 3
    told = watch.look([log], failure)
    assert told is not None
    assert "Disk quota" in told.message
    log.close()


def test_a_full_disk_raises_the_alarm_and_room_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    real = os.write
    with RunWriter(tmp_path, timings=replace(QUICK, backlog=0.1)) as writer:
        run = writer.run
        paths = {p.stat().st_ino for p in (run.metrics_path, run.events_path, run.log_path)}

        def full(fd: int, data: bytes) -> int:
            if os.fstat(fd).st_ino in paths:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, data)

        with monkeypatch.context() as patch:
            patch.setattr("os.write", full)
            writer.log(1, loss=1.0)
            wait_until(lambda: "wait in memory" in state_of(run).alarm)  # of this there was room
            assert not events_of(run, "alarm")
            writer.alarm("disk", "No checkpoint")  # another sort of alarm ends by itself
        wait_until(lambda: events_of(run, "alarm_over"))
        wait_until(lambda: state_of(run).alarm == "No checkpoint")
        writer.alarm_over("disk", "saved again")
        wait_until(lambda: state_of(run).alarm == "")
        assert [r["step"] for r in read_records(run.metrics_path)] == [1]
    said = [(e["event"], e["alarm"]) for e in events_of(run, "alarm", "alarm_over")]
    assert sorted(said) == [
        ("alarm", "disk"),
        ("alarm", "log"),
        ("alarm_over", "disk"),
        ("alarm_over", "log"),
    ]


def test_the_pulse_survives_errors(wait_until: Wait) -> None:
    calls: Counter[str] = Counter()
    failure = OSError(errno.EIO, "the heartbeat failed")
    given: list[OSError | None] = []

    def save() -> None:
        calls["save"] += 1
        raise OSError(errno.ENOSPC, "full")

    def beat() -> OSError:
        calls["beat"] += 1
        return failure

    def watch(error: OSError | None) -> None:
        given.append(error)
        raise RuntimeError("a bug")

    def look() -> None:
        calls["look"] += 1

    pulse = Pulse(QUICK, save=save, beat=beat, watch=watch, look=look)
    wait_until(lambda: len(calls) == 3 and min(calls.values()) >= 3)
    pulse.stop()
    assert set(given) == {failure}
    before = dict(calls)
    pulse.stop()
    assert dict(calls) == before
