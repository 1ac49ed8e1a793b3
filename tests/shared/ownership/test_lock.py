"""One owner per run, among real processes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import threading
import time
from pathlib import Path

import pytest

from shared.ownership.heartbeat import DEAD_AFTER
from shared.ownership.lock import LockHeldError, RunLock, lock_is_held, read_holder
from shared.ownership.process import this_process

HOLDER = """
import sys
from pathlib import Path
from shared.ownership.lock import LockHeldError, RunLock
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
    with pytest.raises(LockHeldError) as refused:
        RunLock(path).acquire()
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


# -- filesystems without flock -------------------------------------------------------------------

NO_FLOCK = """
import errno, fcntl, os
def no_flock(fd, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = no_flock
"""

#: Races for one lock after the other; the parent says when, so that all start together.
RACER = (
    NO_FLOCK
    + """
import sys
from pathlib import Path
from shared.ownership.lock import LockHeldError, RunLock
print("ready", flush=True)
for line in sys.stdin:
    lock = RunLock(Path(line.strip()))
    try:
        lock.acquire()
        print("won", flush=True)
    except LockHeldError as error:
        print("lost", error.holder.process.pid if error.holder else 0, flush=True)
    sys.stdin.readline()
    lock.release()
    print("released", flush=True)
"""
)


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)


#: Nobody waits so long: a lock with this patience that returns was sure at once.
AT_ONCE = 1e6


def put_note(path: Path, *, age: float, since: float = 1.0, **identity: object) -> None:
    """A note of some other owner whose last beat is `age` seconds old."""
    moment = time.time() - age
    note = {**dataclasses.asdict(this_process()), **identity, "since": since, "time": moment}
    path.write_text(json.dumps({**note, "step": 0, "step_time": moment, "idle_seconds": 0}))


def elsewhere() -> dict[str, object]:
    return {"host": "elsewhere", "boot": "another", "pid": 77, "since_boot": None}


def test_without_flock_a_living_holder_is_respected_and_a_dead_one_followed(
    path: Path, no_flock: None, spawn
) -> None:
    holder = spawn(RACER, path)
    holder.stdout.readline()
    holder.stdin.write(f"{path}\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "won\n"
    assert lock_is_held(path) is True
    with pytest.raises(LockHeldError, match=str(holder.pid)):
        RunLock(path, AT_ONCE).acquire()
    holder.kill()
    holder.wait()
    lock = RunLock(path, unsure=1.5)
    lock.acquire()  # after a while, in which a container we cannot see into could have beaten
    assert lock_is_held(path) is True
    assert read_holder(path).process.pid == os.getpid()  # type: ignore[union-attr]
    lock.release()
    assert lock_is_held(path) is False
    lock = RunLock(path, AT_ONCE)
    lock.acquire()  # one that was given back is free at once
    lock.release()
    assert sorted(p.name for p in path.parent.iterdir()) == ["lock", "lock.2", "lock.3"]


@pytest.mark.parametrize("racers", [2, 3, 4])
def test_without_flock_exactly_one_of_many_takes_over(path: Path, spawn, racers: int) -> None:
    children = [spawn(RACER) for _ in range(racers)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    dead = {"pid": 2**22 + 1, "since_boot": None}
    for number in range(100):
        lock = path.parent / f"run_{number}" / "lock"
        lock.parent.mkdir()
        if number % 2:  # a stale note of another attempt, and older ones below it
            put_note(lock, age=1000, **dead)
            put_note(lock.with_name("lock.7"), age=1000, **dead)
        for child in children:
            child.stdin.write(f"{lock}\n")
        for child in children:
            child.stdin.flush()
        answers = [child.stdout.readline().split() for child in children]
        assert [a[0] for a in answers].count("won") == 1, answers
        winner = children[next(i for i, a in enumerate(answers) if a[0] == "won")]
        assert {a[1] for a in answers if a[0] == "lost"} == {str(winner.pid)}
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout.readline() == "released\n"


def test_without_flock_another_host_is_judged_by_its_beats(path: Path, no_flock: None) -> None:
    put_note(path.with_name("lock.1"), age=2, **elsewhere())
    assert lock_is_held(path) is False  # there is no lock file
    path.touch()
    assert lock_is_held(path) is True
    with pytest.raises(LockHeldError, match="process 77 on elsewhere"):
        RunLock(path, AT_ONCE).acquire()
    put_note(path.with_name("lock.1"), age=DEAD_AFTER + 1, **elsewhere())
    assert lock_is_held(path) is False
    lock = RunLock(path, unsure=0.5)
    lock.acquire()
    lock.release()


def test_without_flock_a_clock_that_differs_makes_no_living_holder_dead(
    path: Path, no_flock: None
) -> None:
    note = path.with_name("lock.1")
    put_note(note, age=86_400, **elsewhere())
    stop = threading.Event()

    def beat() -> None:
        ahead = 0.0
        while not stop.wait(0.2):
            ahead += 0.2
            temporary = note.with_name("next")
            put_note(temporary, age=86_400 - ahead, **elsewhere())
            temporary.replace(note)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LockHeldError, match="elsewhere"):
            RunLock(path, unsure=60).acquire()
    finally:
        stop.set()
        thread.join()


def test_without_flock_stale_notes_are_no_obstacle(path: Path, no_flock: None) -> None:
    for stale in ({"boot": "before"}, {"pid": 2**22 + 1, "since_boot": None}):
        put_note(path.with_name("lock.4"), age=1000, **stale)
        lock = RunLock(path, AT_ONCE)
        lock.acquire()
        assert lock_is_held(path) is True
        lock.release()
        for note in path.parent.iterdir():
            note.unlink()


def test_without_flock_the_run_of_a_host_that_has_flock_is_left_alone(
    path: Path, no_flock: None
) -> None:
    put_note(path, age=1000, since=time.time() - 1000, **elsewhere())
    put_note(path.with_name("heartbeat"), age=1, **elsewhere())
    assert lock_is_held(path) is True
    with pytest.raises(LockHeldError, match="elsewhere"):
        RunLock(path).acquire()
    put_note(path.with_name("heartbeat"), age=1000, **elsewhere())
    assert lock_is_held(path) is False


def test_with_flock_the_run_of_a_host_that_has_none_is_left_alone(path: Path) -> None:
    put_note(path.with_name("lock.3"), age=1, **elsewhere())
    with pytest.raises(LockHeldError, match="elsewhere"):
        RunLock(path).acquire()
    path.with_name("lock.3").unlink()
    lock = RunLock(path)
    lock.acquire()
    lock.release()


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EOPNOTSUPP])
def test_without_flock_and_without_links(
    path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr("os.link", no_link)
    first, second = RunLock(path), RunLock(path)
    first.acquire()
    with pytest.raises(LockHeldError, match=str(os.getpid())):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
    assert not list(path.parent.glob(".lock*"))


def test_a_link_whose_answer_was_lost_is_ours(
    path: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def twice(source: Path, target: Path) -> None:
        real(source, target)
        real(source, target)

    monkeypatch.setattr("os.link", twice)
    lock = RunLock(path)
    lock.acquire()
    lock.release()


def test_who_was_taken_for_dead_notices(path: Path, no_flock: None, wait_until) -> None:
    lock = RunLock(path)
    lock.acquire()
    assert not lock.lost
    put_note(path.with_name("lock.2"), age=0, **elsewhere())
    wait_until(lambda: lock.lost)
    lock.release()
    with pytest.raises(LockHeldError, match="elsewhere"):
        RunLock(path).acquire()
