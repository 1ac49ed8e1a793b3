"""The folder, in memory where possible, in which a launcher makes its work folders.

It is locked while its launcher lives. The next launcher removes those that nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import secrets
import stat
import tempfile

PREFIX = "train-monitor-sandbox-"
_UNLOCKED = f".{PREFIX}"


class Workplace:
    """A launcher's folder; made beneath the first of `places` that can be written."""

    def __init__(self, places: tuple[str, ...] = ("/dev/shm", tempfile.gettempdir())) -> None:
        reasons = []
        for place in places:
            sweep(place)
            try:
                made = tempfile.mkdtemp(prefix=_UNLOCKED, dir=place)
                break
            except OSError as error:
                reasons.append(f"{place}: {error.strerror}")
        else:
            raise OSError(f"no work folder can be made ({', '.join(reasons)})")
        os.chmod(made, 0o711)  # works of another user pass through; names are not listed
        self._fd = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Only now: launchers that start at the same time remove what has the name and no lock.
        self.path = os.path.join(place, PREFIX + secrets.token_hex(8))
        os.rename(made, self.path)
        self._numbers = itertools.count()

    def new_folder(self) -> str:
        """A new empty folder."""
        path = os.path.join(self.path, str(next(self._numbers)))
        os.mkdir(path, 0o700)
        return path

    def new_file(self) -> tuple[int, int]:
        """A new file without a name, open for reading, and once more for appending only.

        Whoever has the second descriptor cannot read what was written before: Landlock keeps it
        from opening the file again, which it does not for a file of memfd_create.
        """
        path = os.path.join(self.path, f"{next(self._numbers)}.out")
        reading = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            return reading, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.unlink(path)

    @staticmethod
    def remove_folder(path: str) -> None:
        """Remove a folder, whatever rights its content has."""
        remove(path)

    def close(self) -> None:
        """Remove everything."""
        remove(self.path)
        os.close(self._fd)


def sweep(place: str) -> None:
    """Remove what killed launchers of this user left in `place`."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in list(entries):
            if entry.name.startswith(PREFIX) and _is_ours(entry):
                with contextlib.suppress(OSError):
                    _remove_unlocked(entry.path)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        found = entry.stat(follow_symlinks=False)
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False


def _remove_unlocked(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Remove a folder with all that is in it, whatever rights and however many levels it has.

    Folders inside are moved to its top first, so that neither recursion nor the length of a path
    sets a bound.
    """
    mark = secrets.token_hex(8)
    with contextlib.suppress(OSError):
        os.chmod(path, 0o700)
        waiting = [entry.path for entry in os.scandir(path)]
        number = 0
        while waiting:
            with contextlib.suppress(OSError):
                folder = _open_rights(waiting.pop())
                if folder is None:
                    continue
                for inner in list(os.scandir(folder)):
                    if _open_rights(inner.path) is not None:
                        number += 1
                        moved = f"{path}/.{mark}-{number}"
                        os.rename(inner.path, moved)
                        waiting.append(moved)
                os.rmdir(folder)
        os.rmdir(path)


def _open_rights(path: str) -> str | None:
    """Remove `path`; a folder is made writable and returned instead."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return None
    os.chmod(path, 0o700)
    return path
