"""The cheap looks: at the folder, and at what happens in the runs."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest

from shared.control.daemons import DaemonDirectory, find_daemons
from shared.control.requests import submit
from shared.files import AppendLog, write_json
from shared.json_text import Json, encode_line
from shared.ownership.health import Health
from shared.ownership.heartbeat import HeartbeatFile
from shared.ownership.lock import RunLock
from shared.ownership.process import identify
from shared.run.directory import RunDirectory, create_run
from shared.run.records import RunState
from shared.run_writer import RunWriter
from trainer.daemon.care import RUNNING, WAITING, Care, read_care, write_care
from trainer.daemon.events import EventFeed
from trainer.daemon.policy import History
from trainer.daemon.scan import DirectoryScan


def put(run: RunDirectory, **state: object) -> None:
    write_json(run.state_path, RunState(run_id=run.run_id, **state).to_json())  # type: ignore[arg-type]


def test_a_state_is_read_again_only_when_it_changed(tmp_path: Path) -> None:
    run = create_run(tmp_path, "x")
    create_run(tmp_path, "no-state")
    (tmp_path / ".daemon").mkdir()
    (tmp_path / "file").touch()
    put(run, status="queued")
    reads = 0

    def counted(run: RunDirectory) -> RunState | None:
        nonlocal reads
        reads += 1
        return run.read_state()

    scan = DirectoryScan(tmp_path, counted)
    [seen] = scan.look().values()
    assert (seen.run, seen.state.status, seen.changed, seen.asked) == (run, "queued", True, False)
    assert not scan.look()[run.run_id].changed
    assert reads == 1
    put(run, status="running")
    seen = scan.look()[run.run_id]
    assert (seen.changed, seen.state.status, reads) == (True, "running", 2)
    run.state_path.unlink()
    assert scan.look() == {}


def test_requests_are_seen_at_once_and_until_they_are_answered(tmp_path: Path) -> None:
    run = create_run(tmp_path, "x")
    put(run)
    scan = DirectoryScan(tmp_path)
    assert not scan.look()[run.run_id].asked
    (run.control / "notes.txt").touch()
    assert not scan.look()[run.run_id].asked
    for _ in range(50):  # within a tick of the filesystem's clock
        request = submit(run.control, "stop")
        assert scan.look()[run.run_id].asked
        assert scan.look()[run.run_id].asked
        (run.control / f"{request}.json").unlink()
        assert not scan.look()[run.run_id].asked
    before = run.control.stat().st_mtime_ns
    request = submit(run.control, "stop")
    os.utime(run.control, ns=(before, before))  # a filesystem whose clock ticks seldom
    assert scan.look()[run.run_id].asked
    (run.control / f"{request}.json").unlink()
    assert not scan.look()[run.run_id].asked
    past = time.time() - 1000
    submit(run.control, "stop")
    os.utime(run.control, (past, past))  # as seen by a clock that differs
    assert scan.look()[run.run_id].asked


def test_what_is_under_care_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    cares = {
        "a": Care("a", RUNNING, identify(os.getpid()), 3, 1, oom_kills={"/proc/vmstat": 2}),
        "b": Care("b", WAITING, None, 1, None, History((1.5, 2.5), 40), 99.5, "killed"),
    }
    write_care(path, cares)
    assert read_care(path) == cares


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"[]",
        b'{"runs": 3}',
        b'{"runs": {"a": 1, "b": {"phase": "x"}, "../c": {"phase": "running"}}}',
    ],
)
def test_a_spoilt_record_is_empty(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "runs.json"
    assert read_care(path) == {}
    path.write_bytes(junk)
    assert read_care(path) == {}


def test_a_record_of_odd_values_is_read(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    record = {"phase": "running", "worker": {"pid": "x"}, "attempt": "y", "gpu": [], "history": 3}
    write_json(path, {"runs": {"a": record}})
    assert read_care(path) == {"a": Care("a", RUNNING)}


def test_events_are_passed_on_from_now_on_and_to_the_last(tmp_path: Path) -> None:
    noticed: list[tuple[str, str]] = []
    feed = EventFeed(lambda run, record: noticed.append((run.run_id, record["event"])))
    run = create_run(tmp_path, "x")
    log = AppendLog(run.events_path)
    log.append(encode_line({"event": "old"}))
    feed.follow(run)
    feed.follow(run)
    feed.poll([])
    assert noticed == []
    log.append(encode_line({"event": "new"}))
    feed.poll([])
    log.append(encode_line({"event": "last"}))
    feed.drop(run.run_id)
    feed.drop(run.run_id)
    log.append(encode_line({"event": "later"}))
    log.close()
    feed.poll([run.run_id])
    assert noticed == [(run.run_id, "new"), (run.run_id, "last")]


def test_a_trainer_that_stands_still_as_a_whole_is_told_of_and_so_is_its_end(
    tmp_path: Path,
) -> None:
    noticed: list[Json] = []
    health = Health("running", alive=True)
    feed = EventFeed(
        lambda _, record: noticed.append(record),
        health_every=0.0,
        health=lambda _run, _state: health,
        silent_after=-1.0,
    )
    with RunWriter(tmp_path, "x") as writer:
        feed.follow(writer.run)
        feed.poll([writer.run.run_id])
        assert noticed == []
        health = Health("stalled", alive=True, reason="no heartbeat for 9 s")
        feed.poll([writer.run.run_id])
        feed.poll([writer.run.run_id])
        assert [r["event"] for r in noticed] == ["stalled"]
        assert "no heartbeat" in noticed[0]["message"]
        health = Health("running", alive=True)
        feed.poll([writer.run.run_id])
        assert [r["event"] for r in noticed] == ["stalled", "stall_over"]


def test_daemons_are_found_by_their_signs_of_life(tmp_path: Path) -> None:
    assert find_daemons(tmp_path) == []
    here, far, dead = (DaemonDirectory.of(tmp_path, host) for host in (None, "far", "dead"))
    for directory in (here, far, dead):
        directory.path.mkdir(parents=True)
        name = directory.path.name
        facts = {} if directory is here else {"host": name, "boot": name}
        file = HeartbeatFile(directory.heartbeat_path, **facts)
        if directory is dead:
            past = dataclasses.replace(identify(os.getpid()), host="dead", boot="b")
            old = {**dataclasses.asdict(past), "time": time.time() - 60, "step": 0, "step_time": 0}
            write_json(dead.heartbeat_path, old)
        else:
            assert file.beat() is None
        file.close()
    lock = RunLock(here.lock_path)
    assert [(v.directory, v.alive) for v in find_daemons(tmp_path)] == [
        (far, True),
        (here, False),
        (dead, False),
    ]
    lock.acquire()
    write_json(here.state_path, {"alerts": True, "runs": {"a": {"status": "running"}, "b": 3}})
    views = find_daemons(tmp_path)
    assert (views[0].directory, views[0].alive) == (here, True)
    assert (views[0].pid, views[0].alerts, set(views[0].runs)) == (os.getpid(), True, {"a"})
    here.state_path.write_text("{")
    assert find_daemons(tmp_path)[0].runs == {}
    lock.release()
