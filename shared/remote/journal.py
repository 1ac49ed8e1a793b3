"""What was asked of this host, each request in a file of its own: nothing is done twice.

The file is there before the work begins and locked while it goes on, so after a link or a process
died another server can tell what became of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from pathlib import Path

from shared.errors import RunError
from shared.json_text import Json, encode_line, parse_json
from shared.text import one_line

KEPT = 7 * 86400.0  # seconds that an outcome can be asked for
_REQUEST = re.compile(r"[0-9a-f]{32}")
_TAIL = 1 << 20  # bytes at the end of a file that hold its last line
_MOST = 10_000  # files; older ones make room
_EMPTY = 10.0  # seconds in which a file may be made, and not yet locked


class JournalError(RunError):
    """The journal cannot be written, so nothing is begun."""


def is_request_id(value: object) -> bool:
    """Whether it is the id of a request: 32 hexadecimal digits."""
    return isinstance(value, str) and _REQUEST.fullmatch(value) is not None


class Entry:
    """The record of one request, from its beginning to `close`."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path, self._fd = path, fd

    def write(self, state: Json) -> None:
        """What became of it so far. An error is ignored: the work is more than its record."""
        with contextlib.suppress(OSError):
            os.write(self._fd, encode_line(state) + b"\n")

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked for its end."""
        return self._path.with_suffix(".cancel").exists()

    def close(self) -> None:
        """The work is over."""
        os.close(self._fd)


class Journal:
    """The records in a folder, which belongs to this user alone."""

    def __init__(self, runs_dir: Path) -> None:
        self._folder = runs_dir / f".remote-{os.geteuid()}"

    def begin(self, request_id: str, state: Json) -> Entry | None:
        """A record that begins with `state`; None if there is one already.

        Raises JournalError when it cannot be written.
        """
        try:
            return self._begin(request_id, state)
        except OSError as error:
            raise JournalError(
                f"{one_line(self._folder)} cannot be written: {error.strerror}; only a user who "
                "may write there can act on its runs."
            ) from error

    def settle(self, request_id: str) -> Json:
        """What became of a request. One that did not arrive is never carried out after this."""
        found = self.read(request_id)
        if found is not None:
            return found
        entry = self.begin(request_id, {"state": "unknown"})
        if entry is None:  # it arrived at this moment
            return self.read(request_id) or {"state": "running"}
        entry.close()
        return {"state": "unknown"}

    def read(self, request_id: str) -> Json | None:
        """What became of a request so far; None if there is no record of it."""
        try:
            fd = os.open(self._path(request_id), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            owned = _is_owned(fd)  # asked first: the last line is written before the lock goes
            status = os.fstat(fd)
            size = status.st_size
            lines = os.pread(fd, _TAIL, max(0, size - _TAIL)).splitlines(keepends=True)
        except OSError:
            return None
        finally:
            os.close(fd)
        state: Json = {"state": "running"}
        for line in reversed(lines):
            with contextlib.suppress(ValueError):
                value = parse_json(line) if line.endswith(b"\n") else None
                if isinstance(value, dict):
                    state = value
                    break
        made_now = not size and abs(time.time() - status.st_mtime) < _EMPTY
        if state.get("state") == "running" and not owned and not made_now:
            return {"state": "lost"}
        return state

    def cancel(self, request_id: str) -> None:
        """Ask for the end of a request that is being carried out."""
        with contextlib.suppress(OSError):
            if self.read(request_id) is not None:
                self._path(request_id).with_suffix(".cancel").touch(mode=0o600)

    def running(self, name: str, run: str) -> Json | None:
        """What says that a request of this kind for this run is being carried out, if one is."""
        try:
            names = sorted(os.listdir(self._folder))  # noqa: PTH208
        except OSError:
            return None
        for stem in (n.removesuffix(".json") for n in names if n.endswith(".json")):
            state = self.read(stem) if is_request_id(stem) else None
            wanted = {"state": "running", "act": name, "run": run}
            if state and wanted.items() <= state.items():
                return {**state, "id": stem}
        return None

    def sweep(self) -> None:
        """Remove records that nobody asks for any more."""
        with contextlib.suppress(OSError), os.scandir(self._folder) as found:
            files = sorted(
                (entry.stat(follow_symlinks=False).st_mtime, entry.path)
                for entry in found
                if entry.is_file(follow_symlinks=False)
            )
            old = time.time() - KEPT
            for number, (written, path) in enumerate(files):
                if written < old or number < len(files) - _MOST:
                    with contextlib.suppress(OSError):
                        if not _in_use(path):
                            os.unlink(path)  # noqa: PTH108

    def _begin(self, request_id: str, state: Json) -> Entry | None:
        path = self._made() / f"{request_id}.json"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except FileExistsError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.write(fd, encode_line(state) + b"\n")
            os.fsync(fd)
        except OSError:
            os.close(fd)
            raise
        return Entry(path, fd)

    def _made(self) -> Path:
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError(0, "it is not a folder of this user's")
        return self._folder

    def _path(self, request_id: str) -> Path:
        assert is_request_id(request_id)
        return self._folder / f"{request_id}.json"


def _is_owned(fd: int) -> bool:
    """Whether a process is at work on the request."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _in_use(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _is_owned(fd)
    finally:
        os.close(fd)
