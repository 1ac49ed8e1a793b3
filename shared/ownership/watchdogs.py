"""Checks of a running trainer: no progress, a lost directory, unwritten records.

Each watch is called repeatedly and reports only changes.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from shared.files import AppendLog
from shared.ownership.health import STALLED_AFTER, is_stalled
from shared.text import format_duration

BACKLOG_SECONDS = 2.0  # how long records may wait before an alarm
#: Errors of a filesystem that no longer accepts writes, other than a full disk.
_UNWRITABLE = {
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EIO,
    errno.ENXIO,
    errno.ENODEV,
    errno.ENOTCONN,
}


@dataclass(frozen=True)
class Turn:
    """A problem has started, or it is `over`."""

    over: bool
    message: str


class StallWatch:
    """Notices that a running run stops making progress, and that it resumes."""

    def __init__(
        self, after: float = STALLED_AFTER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`after`: seconds without a step, at least."""
        self._after, self._clock = after, clock
        self._since: float | None = None

    def look(self, *, running: bool, idle: float, step_seconds: float | None) -> Turn | None:
        """`idle`: seconds since the last progress."""
        now = self._clock()
        stalled = running and is_stalled(idle, step_seconds, self._after)
        if self._since is None:
            if stalled:
                self._since = now - idle
                return Turn(over=False, message=f"no step for {format_duration(idle)}")
        elif not stalled:
            lasted, self._since = max(0.0, now - idle - self._since), None
            return Turn(over=True, message=f"progress resumed after {format_duration(lasted)}")
        return None


class DirectoryWatch:
    """Notices that the run directory is missing, was replaced, or is not writable."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises OSError when there is no such directory."""
        self._path, self._clock = path, clock
        self._identity = _identity(path)
        self._since = 0.0
        self.problem = ""
        #: Set when another process assumed that this one was dead and took over the run.
        self.taken = False

    @property
    def lost_seconds(self) -> float:
        """How long the problem has lasted; 0.0 without one."""
        return self._clock() - self._since if self.problem else 0.0

    def check(self) -> None:
        """Raise OSError unless the path still leads to the original directory.

        We must not write into a directory that replaced it, or that another process owns now.
        """
        if self.taken:
            raise OSError(errno.ESTALE, "another process owns the run now", str(self._path))
        if _identity(self._path) != self._identity:
            raise OSError(errno.ESTALE, "another directory is in its place", str(self._path))

    def look(self, failure: OSError | None) -> Turn | None:
        """`failure`: the error of the last write."""
        before, self.problem = self.problem, self._found(failure)
        if self.problem and not before:
            self._since = self._clock()
            message = f"{self.problem}; training continues, but nothing is saved until it is back"
            return Turn(over=False, message=message)
        if before and not self.problem:
            return Turn(over=True, message=f"The run directory {self._path} can be written again")
        return None

    def _found(self, failure: OSError | None) -> str:
        where = f"The run directory {self._path}"
        if self.taken:
            return f"{where} belongs to another process now, which assumed that this one was dead"
        try:
            self.check()
        except FileNotFoundError:
            return f"{where} is gone"
        except OSError as error:
            if error.errno == errno.ESTALE and error.filename:
                return f"{where} was moved away, and {error.strerror}"
            return f"{where} cannot be reached: {error.strerror}"
        if failure is not None and failure.errno in _UNWRITABLE:
            return f"{where} cannot be written: {failure.strerror}"
        if not os.access(self._path, os.W_OK | os.X_OK):
            return f"{where} is no longer writable: check its permissions"
        return ""


class BacklogWatch:
    """Notices that records wait in memory because they cannot be written, and retries."""

    def __init__(
        self, after: float = BACKLOG_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`after`: seconds that records may wait before it is reported."""
        self._after, self._clock = after, clock
        self._since: float | None = None
        self._told = False

    def look(self, logs: Iterable[AppendLog], failure: OSError | None) -> Turn | None:
        """`failure`: the error of the last write of the state."""
        now = self._clock()
        stuck = [log for log in logs if log.waiting and not log.flush()]
        if not stuck and failure is None:
            self._since = None
            over, self._told = self._told, False
            message = "The run's records are written again; nothing was lost"
            return Turn(over=True, message=message) if over else None
        self._since = now if self._since is None else self._since
        if self._told or now - self._since < self._after:
            return None
        self._told = True
        cause = next((log.problem for log in stuck if log.problem), failure)
        reason = (cause.strerror if cause else None) or "the disk is full"
        message = f"The run's records cannot be written ({reason}); they wait in memory"
        return Turn(over=False, message=message)


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
