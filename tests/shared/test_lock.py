"""One owner per run, among real processes."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from shared.lock import LockHeldError, RunLock, lock_is_held, read_holder

HOLDER = """
import sys
from pathlib import Path
from shared.lock import LockHeldError, RunLock
lock = RunLock(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    lock.acquire()
    print("won", flush=True)
except LockHeldError:
    print("lost", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "run_1"
    folder.mkdir()
    return folder / "lock"


def tell(child) -> str:
    child.stdin.write("go\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def test_a_second_process_is_refused_at_once_with_the_holder_named(path: Path, spawn) -> None:
    holder = spawn(HOLDER, path)
    assert holder.stdout.readline().strip() == "ready"
    assert lock_is_held(path) is False
    before = time.time()
    assert tell(holder) == "won"
    assert lock_is_held(path) is True
    began = time.monotonic()
    with pytest.raises(LockHeldError) as refused:
        RunLock(path).acquire()
    assert time.monotonic() - began < 2
    message = str(refused.value)
    year = time.strftime("%Y-", time.localtime())
    for part in ("run_1", str(holder.pid), os.uname().nodename, f"since {year}"):
        assert part in message
    assert "\n" not in message
    noted = read_holder(path)
    assert noted is not None
    assert before <= noted.since <= time.time()
    assert noted.process.is_alive()


def test_death_releases_the_lock(path: Path, spawn, wait_until) -> None:
    holder = spawn(HOLDER, path)
    holder.stdout.readline()
    assert tell(holder) == "won"
    holder.kill()
    holder.wait()
    assert lock_is_held(path) is False
    lock = RunLock(path)
    lock.acquire()
    assert lock.held
    assert read_holder(path).process.pid == os.getpid()  # type: ignore[union-attr]
    lock.release()
    lock.release()
    assert not lock.held
    assert path.exists()


def test_of_many_processes_exactly_one_wins(path: Path, spawn) -> None:
    children = [spawn(HOLDER, path) for _ in range(6)]
    for child in children:
        assert child.stdout.readline().strip() == "ready"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    results = [child.stdout.readline().strip() for child in children]
    assert sorted(results) == ["lost"] * 5 + ["won"]


def test_polling_readers_never_make_acquire_fail(path: Path) -> None:
    path.touch()
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            lock_is_held(path)

    readers = [threading.Thread(target=poll) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(40):
            lock = RunLock(path)
            lock.acquire()
            lock.release()
    finally:
        stop.set()
        for reader in readers:
            reader.join()


def test_a_missing_lock_is_not_held_and_a_strange_one_unknown(path: Path) -> None:
    assert lock_is_held(path) is False
    assert read_holder(path) is None
    assert lock_is_held(path / "below") in (False, None)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"junk",
        b"[]",
        b"{}",
        b'{"host":"h","pid":"x","boot":"","started":0,"since":1}',
        b'{"host":"h","pid":7,"boot":"","started":0,"since":1e300}',
        b'{"host":"\\u001b[2J","pid":7,"boot":3,"started":0,"since":"nan"}',
    ],
)
def test_the_refusal_survives_any_note(path: Path, note: bytes) -> None:
    lock = RunLock(path)
    lock.acquire()
    path.write_bytes(note)
    with pytest.raises(LockHeldError, match="already being trained") as refused:
        RunLock(path).acquire()
    assert "\x1b" not in str(refused.value)
    lock.release()


def test_without_flock_a_living_holder_is_respected(
    path: Path, monkeypatch: pytest.MonkeyPatch, spawn
) -> None:
    def no_flock(fd: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    holder = spawn(HOLDER, path)
    holder.stdout.readline()
    assert tell(holder) == "won"
    monkeypatch.setattr("shared.lock.fcntl.flock", no_flock)
    assert lock_is_held(path) is None
    with pytest.raises(LockHeldError, match=str(holder.pid)):
        RunLock(path).acquire()
    holder.kill()
    holder.wait()
    lock = RunLock(path)
    lock.acquire()
    lock.release()
