"""Temporary files and folders that no process leaves behind for good.

Each lies beside what it will become and is locked (flock) while its process lives. Whoever writes
into the same folder next removes those that nobody holds: the leftovers of killed processes, never
the files of a running one. On a filesystem without flock nothing is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from shared.errors import RunError

_NAME = re.compile(r"\..*\.part-([0-9a-f]{8})-\d+-\d+", re.DOTALL)
_REPLACED = re.compile(r"\.(.+)\.replaced-([0-9a-f]{8})-\d+-\d+", re.DOTALL)
_KEPT_BYTES = 150  # of the target's name; a file name has at most 255
_OTHER_HOST_SECONDS = 24 * 3600.0  # locks may not reach across a network disk
_TRIES = 100
_counter = itertools.count()


def temporary_place() -> Path:
    """The system's folder for temporary files, or where TMPDIR points. Raises RunError."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise RunError(
            "No temporary file can be written: TMPDIR, /tmp and /var/tmp are full or read-only; "
            "free some space, or point TMPDIR at another folder."
        ) from error


@contextlib.contextmanager
def temporary_file(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file beside `target`, locked and open for writing; removed at the end if it is there.

    Raises OSError.
    """
    sweep(target.parent)
    path, fd = _made(target, _make_file)
    with os.fdopen(fd, "wb") as file:
        try:
            yield path, file
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, locked; removed with its content at the end. Raises OSError."""
    sweep(target.parent)
    path, fd = _made(target, _make_folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def put_folder(temporary: Path, target: Path) -> None:
    """Rename a finished folder to `target`, replacing a folder of that name.

    A process that is killed between the two renames leaves the old folder under another name, which
    `sweep` gives back to it. Raises OSError, and the old folder stays.
    """
    # The whole name, which `sweep` gives back; one too long for that fails before anything moves.
    replaced = target.with_name(f".{target.name}.replaced-{_own_mark()}")
    if not target.is_dir():
        temporary.rename(target)
        return
    fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(fd, target)
        target.rename(replaced)
        try:
            temporary.rename(target)
        except BaseException:
            replaced.rename(target)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        os.close(fd)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in `folder`, and put back a folder that they set aside."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in list(entries):
            found = _NAME.fullmatch(entry.name)
            if found and (found[1] == _this_host() or _is_old(entry)):
                _remove(Path(entry.path))
                continue
            aside = _REPLACED.fullmatch(entry.name)
            if aside and (aside[2] == _this_host() or _is_old(entry)):
                _remove(Path(entry.path), instead=folder / aside[1])


def _remove(path: Path, instead: Path | None = None) -> None:
    """Remove a leftover that no process holds; or rename it to `instead` where that is missing."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(fd, path):
                return
            if instead is not None and not os.path.lexists(instead):
                path.rename(instead)
            elif path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif instead is None:
                path.unlink()
        finally:
            os.close(fd)


def _made(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """What `make` made beside `target`, and its descriptor, locked."""
    name = os.fsdecode(os.fsencode(target.name)[:_KEPT_BYTES])
    for tries_left in reversed(range(_TRIES)):
        path = target.with_name(f".{name}.part-{_own_mark()}")
        try:
            fd = make(path)
        except FileExistsError:  # another process had this id before
            if not tries_left:
                raise
            continue
        if _lock(fd, path):
            return path, fd
        os.close(fd)  # swept before it was locked
    raise FileNotFoundError(errno.ENOENT, "Temporary files vanish", str(target.parent))


def _make_file(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _make_folder(path: Path) -> int:
    path.mkdir()
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _own_mark() -> str:
    return f"{_this_host()}-{os.getpid()}-{next(_counter)}"


def _this_host() -> str:
    return f"{zlib.crc32(os.fsencode(socket.gethostname())):08x}"


def _is_old(entry: os.DirEntry[str]) -> bool:
    changed = entry.stat(follow_symlinks=False).st_mtime
    return time.time() - changed > _OTHER_HOST_SECONDS


def _lock(fd: int, path: Path) -> bool:
    """Lock what was just made. False if somebody swept it before."""
    with contextlib.suppress(OSError):  # no flock there: then nobody sweeps
        fcntl.flock(fd, fcntl.LOCK_EX)
    return _is_at(fd, path)


def _is_at(fd: int, path: Path) -> bool:
    try:
        here = path.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(here, os.fstat(fd))
