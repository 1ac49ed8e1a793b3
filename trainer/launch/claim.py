"""A place to write: a runs directory for a new run, or the lock of one that is continued."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from shared.errors import RunError, UserError
from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory
from shared.text import one_line

_PROBE = bytes(16384)  # more than a filesystem stores inside an inode


def check_writable(folder: Path) -> None:
    """Raise UserError when nothing can be written in `folder`, or where it would be created."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise UserError(
            f"Cannot create a run in {one_line(folder)}: {one_line(place)} is not a folder; choose "
            "another with --runs-dir."
        )
    problem = _try_to_write(place)
    if problem:
        raise UserError(
            f"Cannot create a run in {one_line(folder)}: {problem}; free some space, or choose a "
            "writable folder with --runs-dir."
        )


def claim(run: RunDirectory) -> RunLock:
    """Take the lock of a run that is continued, and check that its folder can be written.

    Raises LockHeldError with the holder's name, RunError when the folder cannot be written.
    """
    lock = RunLock(run.lock_path)
    try:
        lock.acquire()
    except OSError as error:
        raise _unwritable(run, error.strerror or str(error)) from error
    problem = _try_to_write(run.path)
    if problem:
        lock.release()
        raise _unwritable(run, problem)
    return lock


def _unwritable(run: RunDirectory, problem: str) -> RunError:
    return RunError(
        f"Cannot write in {one_line(run.path)}: {problem}; check its permissions and the free "
        "space."
    )


def _try_to_write(folder: Path) -> str:
    """Why nothing can be written in `folder`; empty if something can."""
    # Named like an unfinished replacement: the next holder of the lock removes what a kill leaves.
    probe = folder / f".probe.tmp-{os.getpid()}-0"
    try:
        try:
            probe.write_bytes(_PROBE)
        finally:
            with contextlib.suppress(FileNotFoundError):
                probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""
