"""One owner per run: an flock that the kernel releases with its process, and a note of the holder.

On filesystems without flock, numbered notes beside the lock decide: `lock.1`, `lock.2`, … Each is
the heartbeat of one owner, and the highest number counts. A process that finds it dead creates the
next number. Creation is exclusive, so only one of several processes wins, and nobody touches a note
that may be alive.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from shared.errors import UserError
from shared.files import read_json
from shared.ownership.heartbeat import DEAD_AFTER, INTERVAL, BeatWatch, HeartbeatFile, read_beat
from shared.ownership.process import ProcessIdentity, this_process
from shared.text import format_time, one_line

_NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_TRIES = 20
_TRY_SECONDS = 0.02
UNSURE_SECONDS = 3.0  # how long to watch a holder that seems dead for another beat
_UNWRITTEN_SECONDS = 0.3  # how long a note may be empty before it counts as abandoned
_counter = itertools.count()


@dataclass(frozen=True)
class LockHolder:
    """Who wrote the lock file, and since when (Unix seconds)."""

    process: ProcessIdentity
    since: float

    def __str__(self) -> str:
        host = one_line(self.process.host)
        return f"process {self.process.pid} on {host}, since {format_time(self.since)}"


class LockHeldError(UserError):
    """Another process owns the run."""

    def __init__(self, run_id: str, holder: LockHolder | None) -> None:
        self.holder = holder
        who = str(holder) if holder else "another process"
        super().__init__(
            f"Run {one_line(run_id)} is already being trained by {who}; stop that one first, "
            "or watch it with train-monitor."
        )


def read_holder(path: Path) -> LockHolder | None:
    """The last holder according to the lock file, or None."""
    value = read_json(path)
    if value is None or value.get("released"):
        return None
    try:
        return LockHolder(ProcessIdentity.from_json(value), float(value["since"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def lock_is_held(path: Path) -> bool | None:
    """Whether a process holds the lock; None if the file cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # for pipes
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return _living_holder(path, _newest_note(path)) is not None if _no_flock(error) else None
    finally:
        os.close(fd)
    return False


class RunLock:
    """Holds a run's lock from `acquire` to `release` or the death of the process."""

    def __init__(self, path: Path, unsure: float = UNSURE_SECONDS) -> None:
        """`unsure`: without flock, seconds to watch a holder that seems dead for another beat."""
        self.path = path
        self._unsure = unsure
        self._fd = -1
        self._note: _Note | None = None

    def acquire(self) -> None:
        """Take the lock, or raise LockHeldError with the holder; usually returns immediately.

        The kernel releases the lock of a dead process. On a filesystem without flock, a holder is
        alive if its process runs here or its heartbeat changes. Taking over from a dead one takes
        up to `unsure` seconds, in which it could beat once more.
        """
        with contextlib.ExitStack() as undo:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            undo.callback(os.close, fd)
            try:
                self._flock(fd)
            except OSError as error:
                if not _no_flock(error):
                    raise LockHeldError(self.path.parent.name, read_holder(self.path)) from error
                self._note = _take_note(self.path, self._unsure)
            else:
                number = _newest_note(self.path)
                holder = _living_note(self.path, number, self._unsure) if number else None
                if holder:  # a host without flock on this filesystem
                    raise LockHeldError(self.path.parent.name, holder)
            undo.pop_all()
        self._fd = fd
        note = {**dataclasses.asdict(this_process()), "since": time.time()}
        data = orjson.dumps(note) + b"\n"
        with contextlib.suppress(OSError):  # a full disk: the note is only for messages
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))

    @staticmethod
    def _flock(fd: int) -> None:
        # A reader's `lock_is_held` takes the lock for an instant, so one failure proves nothing.
        for _ in range(_TRIES - 1):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(_TRY_SECONDS)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    @property
    def lost(self) -> bool:
        """Whether another process took over the lock. Never with flock."""
        return self._note is not None and self._note.lost

    def release(self) -> None:
        """Release the lock. The file stays, or two processes could lock two different files."""
        if self._fd < 0:
            return
        if self._note is not None:
            if not self.lost:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, 0)  # the process lives but no longer holds it
            self._note.release()
            self._note = None
        os.close(self._fd)
        self._fd = -1


# -- without flock -----------------------------------------------------------------------


class _Note:
    """One numbered note, kept fresh by a thread until it is released."""

    def __init__(self, path: Path, number: int, file: HeartbeatFile) -> None:
        self.path = _note_path(path, number)
        self._successor = _note_path(path, number + 1)
        self._file = file
        self.lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="lock-note", daemon=True)
        self._thread.start()

    def _keep_fresh(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._file.beat()
            self.lost = self.lost or self._successor.exists()

    def release(self) -> None:
        self._stop.set()
        self._thread.join()
        self._file.beat(released=True)
        self._file.close()


def _no_flock(error: OSError) -> bool:
    return error.errno in _NO_FLOCK


def _note_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _note_numbers(path: Path) -> list[int]:
    pattern = re.compile(re.escape(path.name) + r"\.([1-9][0-9]{0,8})")
    try:
        names = os.listdir(path.parent)  # noqa: PTH208
    except OSError:
        return []
    return sorted(int(m.group(1)) for name in names if (m := pattern.fullmatch(name)))


def _newest_note(path: Path) -> int:
    return max(_note_numbers(path), default=0)


def _take_note(path: Path, unsure: float) -> _Note:
    """Create the next numbered note. Raises LockHeldError when the newest one is alive."""
    for _ in range(_TRIES):
        newest = _newest_note(path)
        holder = _living_holder(path, newest, unsure)
        if holder:
            raise LockHeldError(path.parent.name, holder)
        file = _make_note(path, newest + 1)
        if file is None:
            continue  # another process was faster: the next round finds it alive
        # Old numbers are free again: ours counts only if it is the highest.
        if _newest_note(path) == newest + 1:
            for number in _note_numbers(path):
                if number < newest:  # keep the last one, or a slow process could reuse its number
                    with contextlib.suppress(OSError):
                        _note_path(path, number).unlink()
            return _Note(path, newest + 1, file)
        file.beat(released=True)
        file.close()
    raise LockHeldError(path.parent.name, read_holder(_note_path(path, _newest_note(path))))


def _make_note(path: Path, number: int) -> HeartbeatFile | None:
    """Create a note with its first beat; None if it exists."""
    target = _note_path(path, number)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{next(_counter)}")
    with contextlib.ExitStack() as undo:
        file = HeartbeatFile(temporary, since=time.time())
        undo.callback(file.close)
        try:
            error = file.beat()
            if error:
                raise error
            _link(temporary, target)
        except FileExistsError:
            return None
        except OSError as failure:
            if failure.errno not in _NO_LINKS:
                raise
            return _make_note_without_links(target)
        finally:
            temporary.unlink(missing_ok=True)
        undo.pop_all()
        return file


def _link(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except FileExistsError:
        # A file server's answer was lost: the repeated request finds the link in place.
        if temporary.stat().st_nlink != 2:
            raise


def _make_note_without_links(target: Path) -> HeartbeatFile | None:
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        return None
    file = HeartbeatFile(target, since=time.time())
    file.beat()
    return file


def _living_holder(path: Path, number: int, patience: float = 0.0) -> LockHolder | None:
    """The living holder without flock; waits up to `patience` seconds to be sure."""
    holder = _living_note(path, number, patience) if number else None
    if holder:
        return holder
    # A host with flock leaves no numbered note, only the lock file and the run's heartbeat.
    noted = read_holder(path)
    note = read_beat(_note_path(path, number)) if number else None
    if noted is None or (note is not None and note.process.is_same(noted.process)):
        return None
    beats = path.with_name("heartbeat")
    return noted if _lives(noted, beats, patience) else None


def _living_note(path: Path, number: int, patience: float) -> LockHolder | None:
    note = _note_path(path, number)
    if patience and not _is_written(note):
        time.sleep(_UNWRITTEN_SECONDS)  # it may be about to be written
    holder = read_holder(note)
    return holder if holder and _lives(holder, note, patience) else None


def _is_written(note: Path) -> bool:
    try:
        return note.stat().st_size > 0
    except OSError:
        return True


def _lives(holder: LockHolder, beats: Path, patience: float) -> bool:
    """Whether `holder` is alive: its process runs here, or its heartbeat in `beats` changes."""
    here = holder.process.is_here()
    if here and holder.process.is_alive():
        return True
    watch, deadline = BeatWatch(), time.monotonic() + patience
    while True:
        beat = read_beat(beats)
        if beat is None or not beat.process.is_same(holder.process):
            # It has not started to beat yet. On this host we would see the process.
            return not here and abs(time.time() - holder.since) < DEAD_AFTER
        fresh = watch.age(beat, time.time()) < DEAD_AFTER
        if watch.moved or (fresh and not here):
            return True
        # Unsure. On this host, a fresh beat may come from a container whose processes we cannot
        # see; elsewhere, an old beat may be due to another clock. The next beat decides.
        if here and not fresh:
            return False
        if time.monotonic() >= deadline:
            return fresh and not patience
        time.sleep(_TRY_SECONDS)
