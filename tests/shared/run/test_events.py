"""The one writer of `events.jsonl`, and its rules."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shared.control.idle_run import IdleRun
from shared.run.directory import RunDirectory, create_run
from shared.run.events import EventLog
from shared.run.record_lines import read_records
from shared.run.state import StateFile
from shared.run_writer import RunWriter


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path, "x")


def kinds(run: RunDirectory) -> list[str]:
    return [record["event"] for record in read_records(run.events_path)]


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Writes to `path` fail meanwhile."""
    real = os.write

    def write(fd: int, data: bytes) -> int:
        if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.write", write)
        yield


def test_an_event_says_what_happened_and_where(run: RunDirectory) -> None:
    state = StateFile(run)
    state.set(current_step=7, attempt=2)
    log = EventLog(run, state, clock=lambda: 12.5)
    log.append("new_best", metric="loss", value=1.5, kind="any key is free")
    state.set(current_step=8)
    log.append("phase", step=3)
    log.close()
    assert list(read_records(run.events_path)) == [
        {
            "time": 12.5,
            "event": "new_best",
            "step": 7,
            "attempt": 2,
            "metric": "loss",
            "value": 1.5,
            "kind": "any key is free",
        },
        {"time": 12.5, "event": "phase", "step": 3, "attempt": 2},
    ]


def test_an_event_that_cannot_be_written_waits_and_keeps_its_place(run: RunDirectory) -> None:
    heard: list[dict[str, Any]] = []
    log = EventLog(run, StateFile(run), listener=heard.append)
    with full_disk(run.events_path):
        log.append("one")
        log.append("two")
        assert log.lines.waiting == 2
        assert kinds(run) == []
    log.append("three")
    log.close()
    assert kinds(run) == ["one", "two", "three"]
    assert [record["event"] for record in heard] == ["one", "two", "three"]


def test_what_is_still_unwritten_at_the_end_is_an_error(run: RunDirectory) -> None:
    log = EventLog(run, StateFile(run))
    with full_disk(run.events_path):
        log.append("lost")
        with pytest.raises(OSError, match="No space left") as caught:
            log.close()
    assert caught.value.filename == str(run.events_path)
    assert kinds(run) == []


def test_who_acts_for_a_run_hears_of_it_at_once(run: RunDirectory) -> None:
    """And nothing that would follow from the event is done."""
    with IdleRun(run) as idle:
        idle.update(status="queued")
        with full_disk(run.events_path), pytest.raises(OSError, match="No space left"):
            idle.end("cancelled", 0, "why")
        assert idle.state.status == "queued"
        idle.end("cancelled", 0, "why")
    assert kinds(run) == ["status"]
    assert (run.read_state() or pytest.fail("no state")).status == "cancelled"


def test_a_trainer_goes_on_and_writes_it_later(run: RunDirectory) -> None:
    with RunWriter(run=run) as writer:
        with full_disk(run.events_path):
            writer.event("warning", message="while the disk was full")
        writer.event("warning", message="afterwards")
    told = [r["message"] for r in read_records(run.events_path) if r["event"] == "warning"]
    assert told == ["while the disk was full", "afterwards"]
