"""One owner per run: an flock that dies with its process, and a note saying who holds it."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from shared.errors import UserError
from shared.files import read_json
from shared.process import ProcessIdentity, this_process
from shared.text import format_time, one_line

_NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_TRIES = 20
_TRY_SECONDS = 0.02


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
    """What the lock file says of its last holder, or None."""
    value = read_json(path)
    if value is None:
        return None
    try:
        process = ProcessIdentity(
            str(value["host"]), int(value["pid"]), str(value["boot"]), float(value["started"])
        )
        return LockHolder(process, float(value["since"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def lock_is_held(path: Path) -> bool | None:
    """Whether some process holds the lock; None where the filesystem cannot say."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(fd)
    return False


class RunLock:
    """Holds a run's lock from `acquire` to `release` or the death of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock at once or raise LockHeldError naming the holder.

        A lock whose process has died was released by the kernel. On a filesystem without flock
        the recorded holder is asked for: same boot and alive means held.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._flock(fd)
        except OSError as error:
            holder = read_holder(self.path)
            if error.errno not in _NO_FLOCK or self._seems_alive(holder):
                os.close(fd)
                raise LockHeldError(self.path.parent.name, holder) from error
        self._fd = fd
        note = {**dataclasses.asdict(this_process()), "since": time.time()}
        data = orjson.dumps(note) + b"\n"
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))

    @staticmethod
    def _flock(fd: int) -> None:
        # A reader's `lock_is_held` takes the lock for an instant, so one refusal proves nothing.
        for _ in range(_TRIES - 1):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(_TRY_SECONDS)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @staticmethod
    def _seems_alive(holder: LockHolder | None) -> bool:
        return holder is not None and (not holder.process.is_here() or holder.process.is_alive())

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd >= 0

    def release(self) -> None:
        """Give the lock back. The file stays: without it two processes could lock two files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
