"""Output files that a person asked for: complete or absent, overwritten only on request."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from shared.errors import RunError, UserError
from shared.files import fsync_directory
from shared.temporaries import temporary_file
from shared.text import one_line

STDOUT = "-"
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def write_output(path: Path, chunks: Iterable[bytes], *, force: bool = False) -> int:
    """Write `chunks` to `path` atomically; returns the number of bytes.

    `-` is standard output. Raises UserError before the first chunk is requested if the path exists
    and `force` is not given, or if it is not usable. Raises RunError when writing fails.
    What killed processes left in the folder is removed.
    """
    if str(path) == STDOUT:
        return _to_stdout(chunks)
    check_output(path, force=force)
    target = path.resolve() if path.is_symlink() else path
    try:
        with temporary_file(target) as (temporary, file):
            size = sum(map(file.write, chunks))
            file.flush()
            os.fsync(file.fileno())
            _put(temporary, target, force=force)
        fsync_directory(target.parent)
    except FileExistsError as error:  # created while we wrote
        raise exists_already(path) from error
    except OSError as error:
        raise RunError(f"Cannot write {one_line(path)}: {error.strerror}.") from error
    return size


def check_output(path: Path, *, force: bool = False) -> None:
    """Raise UserError when no file can be created at `path`."""
    shown = one_line(path)
    if str(path) == STDOUT:
        return
    try:
        if path.is_dir():
            raise UserError(f"{shown} is a folder; name a file in it.")
        if os.path.lexists(path):
            if path.exists() and not path.is_file():
                raise UserError(f"{shown} is not a regular file; name another.")
            if not force:
                raise exists_already(path)
        folder = path.resolve().parent
        if not folder.is_dir():
            raise UserError(f"{shown} cannot be written: there is no folder {one_line(folder)}.")
        check_permission(folder, path)
    except OSError as error:
        raise UserError(f"{shown} cannot be written: {error.strerror}.") from error


def check_permission(folder: Path, path: Path) -> None:
    """Raise UserError when nothing can be made in `folder`, which `path` needs."""
    if not os.access(folder, os.W_OK | os.X_OK):
        shown = one_line(path)
        raise UserError(f"{shown} cannot be written: no permission in {one_line(folder)}.")


def exists_already(path: Path) -> UserError:
    """What to say of a path that may be replaced only on request."""
    return UserError(f"{one_line(path)} already exists; --force replaces it.")


def _put(temporary: Path, target: Path, *, force: bool) -> None:
    """Rename the finished file. Without `force`, raise FileExistsError if the name is taken."""
    if not force:
        try:
            os.link(temporary, target)
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    temporary.replace(target)


def _to_stdout(chunks: Iterable[bytes]) -> int:
    size = 0
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        size += len(chunk)
    sys.stdout.buffer.flush()
    return size
