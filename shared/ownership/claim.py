"""Whether a run may be written by this process: only the holder of its lock may."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from shared.ownership.health import observe
from shared.ownership.lock import LockHeldError, RunLock
from shared.run.directory import RunDirectory
from shared.run.records import RunState


@contextlib.contextmanager
def ownership(run: RunDirectory) -> Iterator[bool]:
    """Whether the run's lock is ours while this is entered; not while its trainer lives.

    Raises OSError where the run may not be written.
    """
    lock = None if observe(run, run.read_state() or RunState()).alive else RunLock(run.lock_path)
    try:
        if lock is not None:
            lock.acquire()
    except LockHeldError:
        lock = None
    try:
        yield lock is not None
    finally:
        if lock is not None:
            lock.release()
