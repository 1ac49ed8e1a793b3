"""Holding a lock for a block of code, with some patience for its present holder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from shared.ownership.lock import LockHeldError, RunLock


@contextlib.contextmanager
def hold_lock(path: Path, wait: float = 0.0) -> Iterator[RunLock]:
    """Hold the lock at `path` until the end of the block.

    If another process holds it, try again for `wait` seconds. Raises LockHeldError after that, and
    OSError when the lock file cannot be written.
    """
    lock = RunLock(path)
    deadline = time.monotonic() + wait
    while True:
        try:
            lock.acquire()  # one attempt takes a moment by itself
            break
        except LockHeldError:
            if time.monotonic() >= deadline:
                raise
    try:
        yield lock
    finally:
        lock.release()
