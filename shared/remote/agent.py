"""The host's side, read-only: lists a folder, tells what changed, sends ranges of files.

It uses the standard library only and runs on Python 3.8: a host without train-monitor is sent this
file and `protocol`. The server of a host with it adds to what is here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple  # noqa: UP035

from shared.remote.protocol import (  # fmt: skip
    GREETING,
    MAX_BODY,
    VERSIONS,
    Head,
    ProtocolError,
    encode_frame,
    read_frame,
)

MAX_ENTRIES = 50_000
MAX_DEPTH = 6  # folders below the served one
_PER_FRAME = 5_000  # entries
MAX_WAIT = 10.0  # seconds that a look waits for a change
_AGAIN = 0.2  # seconds between two looks for a change, at least…
_SHARE = 20  # …and so many times as long as a look takes
_STATE = "run_state.json"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: kind ("d", "f" or "l"), size, time of the last write in ns, inode, target of a link
Entry = Tuple[str, int, int, int, str]  # noqa: UP006
Answer = Tuple[Head, bytes]  # noqa: UP006


class Folder:
    """The served folder: nothing outside of it is listed or opened, whatever links are in it."""

    def __init__(self, path: str) -> None:
        """Raises OSError where it cannot be read."""
        self.root = os.path.realpath(os.path.expanduser(path))
        os.scandir(self.root).close()
        self.truncated = False

    def entries(self) -> Dict[str, Entry]:  # noqa: UP006
        """Everything in it by its path, except what is hidden or leads outside."""
        found: Dict[str, Entry] = {}  # noqa: UP006
        self.truncated = False
        self._walk(self.root, "", 0, found)
        return found

    def _walk(self, folder: str, above: str, depth: int, found: Dict[str, Entry]) -> None:  # noqa: UP006
        try:
            with os.scandir(folder) as listed:
                children = list(listed)
        except OSError:
            return
        for child in children:
            if child.name.startswith(".") or child.name == "lock":
                continue
            if len(found) >= MAX_ENTRIES:
                self.truncated = True
                return
            path = above + child.name
            with contextlib.suppress(OSError):
                entry = self._entry(child)
                if entry is None:
                    continue
                found[path] = entry
                if entry[0] == "d" and depth < MAX_DEPTH:
                    self._walk(child.path, path + "/", depth + 1, found)

    def _entry(self, child: "os.DirEntry[str]") -> Optional[Entry]:  # noqa: UP037, UP045
        target = ""
        if child.is_symlink():
            target = os.readlink(child.path)
            if not self._is_inside(os.path.realpath(child.path)):
                return None
            if "/" not in target and child.is_dir():
                return "l", 0, 0, 0, target
        status = child.stat()
        if stat.S_ISDIR(status.st_mode):
            return "d", 0, 0, status.st_ino, ""
        if not stat.S_ISREG(status.st_mode):
            return None
        return "f", status.st_size, status.st_mtime_ns, status.st_ino, ""

    def _is_inside(self, real: str) -> bool:
        return real.startswith(self.root.rstrip("/") + "/")

    @contextlib.contextmanager
    def opened(self, path: object) -> Iterator[int]:
        """A descriptor of a regular file in it. Raises OSError, also for a path that leads out.

        The real path is opened step by step without following links, so that one that is put there
        in between leads nowhere.
        """
        if not is_plain_path(path):
            raise OSError(errno.EACCES, "outside the served folder")
        assert isinstance(path, str)
        real = os.path.realpath(os.path.join(self.root, path))
        if not self._is_inside(real):
            raise OSError(errno.EACCES, "outside the served folder")
        steps = os.path.relpath(real, self.root).split("/")
        fd = os.open(self.root, _FOLDER)
        try:
            for name in steps[:-1]:
                below = os.open(name, _FOLDER, dir_fd=fd)
                os.close(fd)
                fd = below
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.open(steps[-1], flags, dir_fd=fd)
        finally:
            os.close(fd)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, "not a file")
            yield file
        finally:
            os.close(file)


def is_plain_path(path: object) -> bool:
    """Whether it is a path below a folder, spelled without detours."""
    if not isinstance(path, str) or not 0 < len(path) <= 4096 or "\0" in path:
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


class Service:
    """Answers the requests of one watching program."""

    def __init__(self, folder: Folder, pause: Callable[[float], bool]) -> None:
        """`pause(seconds)` waits, and returns True as soon as there is another request."""
        self.folder = folder
        self._pause = pause
        self._told: Dict[str, Entry] = {}  # noqa: UP006
        self._health: Dict[str, List[Any]] = {}  # noqa: UP006
        self._left: List[Tuple[str, Entry]] = []  # noqa: UP006

    def hello(self) -> Head:
        """What is said first."""
        return {"versions": list(VERSIONS), "agent": True, "acts": [], "now": time.time()}

    def answer(self, head: Head) -> Answer:
        """The answer to a request; an `error` in it says in words why there is none."""
        operation = head.get("op")
        if operation == "look":
            return self._look(_seconds(head.get("wait")), all_of=head.get("all") is True), b""
        if operation == "read":
            return self._read(head)
        if operation == "stat":
            return self._stat(head.get("path")), b""
        if operation == "act":
            return self.act(head), b""
        return {"error": "this request is not known here"}, b""

    def act(self, head: Head) -> Head:
        """The agent changes nothing."""
        return {"error": "train-monitor is not installed on that host, so runs are only watched"}

    def health(self, run: str) -> List[Any]:  # noqa: UP006
        """Status, whether a process owns the run, reason and alarm; a status of "" is unknown."""
        return ["", _is_held(os.path.join(self.folder.root, run, "lock")), "", ""]

    def _look(self, wait: float, *, all_of: bool) -> Head:
        """What has changed since the last look; waits for a change, but not longer than `wait`."""
        if all_of:
            self._told, self._health, self._left = {}, {}, []
        if self._left:
            return self._part({})
        deadline = time.monotonic() + min(wait, MAX_WAIT)
        while True:
            began = time.monotonic()
            now = self.folder.entries()
            health = self._judged(now)
            changed = [(p, e) for p, e in now.items() if self._told.get(p) != e]
            gone = [path for path in self._told if path not in now]
            took = time.monotonic() - began
            if changed or gone or health or time.monotonic() >= deadline:
                break
            if self._pause(max(_AGAIN, _SHARE * took)):
                break
        self._told, self._left = now, changed
        return self._part({"gone": gone, "health": health, "truncated": self.folder.truncated})

    def _part(self, head: Head) -> Head:
        part, self._left = self._left[:_PER_FRAME], self._left[_PER_FRAME:]
        entries = [[path, *entry] for path, entry in part]
        return {**head, "entries": entries, "more": bool(self._left), "now": time.time()}

    def _judged(self, entries: Dict[str, Entry]) -> Dict[str, List[Any]]:  # noqa: UP006
        """The health of the runs where it is another one."""
        runs = [
            p[: -len(_STATE) - 1] for p in entries if p.count("/") == 1 and p.endswith("/" + _STATE)
        ]
        found = {run: self.health(run) for run in runs}
        changed = {run: told for run, told in found.items() if self._health.get(run) != told}
        self._health = found
        return changed

    def _stat(self, path: object) -> Head:
        try:
            with self.folder.opened(path) as fd:
                status = os.fstat(fd)
        except (OSError, ValueError) as error:
            return {"error": _words(error)}
        return {"size": status.st_size, "mtime": status.st_mtime_ns, "inode": status.st_ino}

    def _read(self, head: Head) -> Answer:
        start, size = head.get("start"), head.get("size")
        if not (isinstance(start, int) and isinstance(size, int) and 0 <= start < 1 << 62):
            return {"error": "a range needs a start and a size"}, b""
        try:
            with self.folder.opened(head.get("path")) as fd:
                status = os.fstat(fd)
                data = os.pread(fd, max(0, min(size, MAX_BODY)), start)
        except (OSError, ValueError) as error:
            return {"error": _words(error)}, b""
        told = {"size": status.st_size, "mtime": status.st_mtime_ns, "inode": status.st_ino}
        return told, data


def serve(path: str, make: Callable[..., Service] = Service, source: int = 0, sink: int = 1) -> int:
    """Answer what comes from `source` on `sink` until it ends; returns the exit code."""
    pending = b""

    def pause(seconds: float) -> bool:
        return bool(select.select([source], [], [], seconds)[0])

    def read(size: int) -> bytes:
        nonlocal pending
        while len(pending) < size:
            data = os.read(source, 1 << 16)
            if not data:
                raise EOFError
            pending += data
        data, pending = pending[:size], pending[size:]
        return data

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(sink, view) :]

    try:
        try:
            service = make(Folder(path), pause)
        except (OSError, ValueError) as error:
            write(GREETING + encode_frame({"versions": list(VERSIONS), "error": _words(error)}))
            return 1
        write(GREETING + encode_frame(service.hello()))
        while True:
            head, _ = read_frame(read)
            answer, body = service.answer(head)
            write(encode_frame(answer, body))
    except EOFError:
        return 0
    except (OSError, ProtocolError):
        return 1


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= MAX_WAIT else 0.0


def _words(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error))[:200]


def _is_held(lock: str) -> bool:
    """Whether a process holds the lock of a run."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
