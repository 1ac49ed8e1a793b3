"""The sign of life, written in place and read whatever lies there."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import time
from pathlib import Path

import pytest

from shared.ownership.heartbeat import Beat, BeatWatch, HeartbeatFile, read_beat
from shared.ownership.process import ProcessIdentity, this_process


def test_a_beat_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    file = HeartbeatFile(path)
    before = time.time()
    file.beat(10**6, 123.5)
    assert file.beat(7, 124.5, 0.25) is None
    beat = read_beat(path)
    assert beat is not None
    assert (beat.step, beat.idle_seconds, beat.step_seconds) == (7, 124.5, 0.25)
    assert before <= beat.time <= time.time()
    assert beat.step_time == pytest.approx(beat.time - 124.5)
    assert beat.process == this_process()
    assert beat.process.is_alive()
    file.close()
    file.close()
    assert isinstance(file.beat(8), OSError)  # told, not raised
    assert read_beat(path) == beat


def test_a_beat_that_cannot_be_written_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = HeartbeatFile(tmp_path / "heartbeat")

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", broken)
        failure = file.beat(1)
    assert failure is not None
    assert failure.errno == errno.EIO
    assert file.beat(2) is None
    file.close()


def test_the_age_of_a_beat_does_not_hang_on_clocks_that_can_be_set(tmp_path: Path) -> None:
    file = HeartbeatFile(tmp_path / "heartbeat")
    file.beat(1)
    file.close()
    beat = read_beat(tmp_path / "heartbeat")
    assert beat is not None
    for day in (-86_400, 0, 86_400):  # the writer's clock or the reader's was set
        assert 0 <= beat.age(time.time() + day) < 60
        moved = dataclasses.replace(beat, time=beat.time + day)
        assert 0 <= moved.age(time.time()) < 60
    elsewhere = dataclasses.replace(
        beat, process=dataclasses.replace(beat.process, boot="another", host="elsewhere")
    )
    assert elsewhere.age(beat.time + 7) == pytest.approx(7)


@pytest.mark.parametrize("skew", [-86_400.0, 0.0, 86_400.0])
def test_a_reader_that_stays_needs_no_clock_but_its_own(skew: float) -> None:
    tick = [100.0]
    watch = BeatWatch(clock=lambda: tick[0])
    process = ProcessIdentity("elsewhere", 7, "another", 1.0)
    now = 1_000_000.0
    first = Beat(process, now + skew, 1, now, None, 0.0, 5.0)
    assert watch.age(first, now) == pytest.approx(abs(skew))
    tick[0] += 1
    second = dataclasses.replace(first, time=first.time + 1)
    assert watch.age(second, now + 1) == 0.0
    tick[0] += 12
    assert watch.age(second, now + 13) == 12.0


def test_every_beat_has_the_same_place_and_size(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    file = HeartbeatFile(path)
    file.beat(10**15, 1e9 + 0.123, 1e-9, since=1e9, released=True)
    before = path.stat()
    file.beat(1, 1.0)
    after = path.stat()
    assert before.st_size == after.st_size == 512
    assert before.st_ino == after.st_ino
    assert path.read_bytes().endswith(b" \n")
    file.close()


def test_junk_that_lay_there_does_not_spoil_the_beats(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat"
    path.write_bytes(b"junk" * 1000)
    file = HeartbeatFile(path)
    file.beat(3)
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
    for optional in ("step_seconds", "idle_seconds", "monotonic", "since_boot"):
        path.write_text(json.dumps({**GOOD, optional: value}))
        beat = read_beat(path)
        assert beat is not None
        assert (beat.step_seconds, beat.idle_seconds, beat.monotonic) == (None, None, None)
    assert read_beat(tmp_path / "absent") is None
