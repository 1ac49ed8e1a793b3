"""The sign of life, written in place and read whatever lies there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from shared.heartbeat import HeartbeatFile, read_beat
from shared.process import this_process


def test_a_beat_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    file = HeartbeatFile(path)
    before = time.time()
    file.beat(10**6, 123.5, None)
    file.beat(7, 124.5, 0.25)
    beat = read_beat(path)
    assert beat is not None
    assert (beat.step, beat.step_time, beat.step_seconds) == (7, 124.5, 0.25)
    assert before <= beat.time <= time.time()
    assert beat.process == this_process()
    assert beat.process.is_alive()
    file.close()
    file.close()
    file.beat(8, 0.0, None)
    assert read_beat(path) == beat


def test_every_beat_has_the_same_place_and_size(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    file = HeartbeatFile(path)
    file.beat(10**15, 1e9, 1e-9)
    before = path.stat()
    file.beat(1, 1.0, None)
    after = path.stat()
    assert before.st_size == after.st_size == 512
    assert before.st_ino == after.st_ino
    assert path.read_bytes().endswith(b" \n")
    file.close()


def test_junk_that_lay_there_does_not_spoil_the_beats(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    path.write_bytes(b"junk" * 1000)
    file = HeartbeatFile(path)
    file.beat(3, 1.0, None)
    assert read_beat(path) is not None
    file.close()


GOOD = {"host": "h", "pid": 5, "boot": "b", "started": 1, "time": 2, "step": 3, "step_time": 4}


@pytest.mark.parametrize("key", sorted(GOOD))
@pytest.mark.parametrize("value", [None, [], {}, "x"])
def test_a_beat_of_wrong_types_is_none_or_a_beat(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "heartbeat"
    path.write_text(json.dumps({**GOOD, key: value}))
    beat = read_beat(path)
    if key not in ("host", "boot"):
        assert beat is None
    path.write_text(json.dumps({k: v for k, v in GOOD.items() if k != key}))
    assert read_beat(path) is None
    path.write_text(json.dumps({**GOOD, "step_seconds": value}))
    assert read_beat(path).step_seconds is None  # type: ignore[union-attr]
    assert read_beat(tmp_path / "absent") is None
