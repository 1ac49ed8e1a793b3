"""The host's side, read-only: lists a folder, tells what changed, sends ranges of files.

It uses the standard library only and runs on Python 3.8: a host without train-monitor is sent this
file, `protocol` and `spread`. The server of a host with it adds to what is here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import stat
import time
import zlib
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
from shared.run.spread import Found, spread_lines

MAX_ENTRIES = 50_000
MAX_DEPTH = 6  # folders below the served one
_PER_FRAME = 5_000  # entries
MAX_SAMPLES = 2_000  # lines of a sketch
MAX_FIRST = 4096  # bytes at the beginning of a file that tell it from another one
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
            wait, packed = _seconds(head.get("wait")), head.get("packed") is True
            return self._look(wait, all_of=head.get("all") is True, packed=packed)
        if operation == "read":
            return self._read(head)
        if operation == "sketch":
            return self._sketch(head)
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

    def _look(self, wait: float, *, all_of: bool, packed: bool) -> Answer:
        """What has changed since the last look; waits for a change, but not longer than `wait`.

        The entries are in the body, which is compressed, where they may be `packed`.
        """
        if all_of:
            self._told, self._health, self._left = {}, {}, []
        if self._left:
            return self._part({}, packed=packed)
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
        told = {"gone": gone, "health": health, "truncated": self.folder.truncated}
        return self._part(told, packed=packed)

    def _part(self, head: Head, *, packed: bool) -> Answer:
        entries: List[List[Any]] = []  # noqa: UP006
        size = 0
        for path, entry in self._left[:_PER_FRAME]:
            size += len(json.dumps([path, *entry])) + 4
            if size > MAX_BODY:
                break
            entries.append([path, *entry])
        self._left = self._left[len(entries) :]
        head = {**head, "more": bool(self._left), "now": time.time()}
        if packed:
            return head, json.dumps(entries).encode()
        return {**head, "entries": entries}, b""

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
                return _identity(os.fstat(fd))
        except (OSError, ValueError) as error:
            return {"error": _words(error)}

    def _read(self, head: Head) -> Answer:
        start, size = head.get("start"), head.get("size")
        if not (isinstance(start, int) and isinstance(size, int) and 0 <= start < 1 << 62):
            return {"error": "a range needs a start and a size"}, b""
        try:
            with self.folder.opened(head.get("path")) as fd:
                told = {**_identity(os.fstat(fd)), **_first(fd, head.get("first"))}
                data = os.pread(fd, max(0, min(size, MAX_BODY)), start)
        except (OSError, ValueError) as error:
            return {"error": _words(error)}, b""
        return told, data

    def _sketch(self, head: Head) -> Answer:
        """Evenly spaced lines from `start` to `end`, and where they begin, for a first curve."""
        start, end, samples = (head.get(key) for key in ("start", "end", "samples"))
        if not (isinstance(start, int) and isinstance(end, int) and isinstance(samples, int)):
            return {"error": "a sketch needs a start, an end and a number of samples"}, b""
        try:
            with self.folder.opened(head.get("path")) as fd:
                status = os.fstat(fd)
                start, end = max(0, start), min(end, status.st_size)
                wanted = max(2, min(samples, MAX_SAMPLES))
                lines = spread_lines(fd, start, end, wanted) if start < end else []
        except (OSError, ValueError) as error:
            return {"error": _words(error)}, b""
        return _identity(status), _packed_lines(lines)


def _identity(status: os.stat_result) -> Head:
    return {"size": status.st_size, "mtime": status.st_mtime_ns, "inode": status.st_ino}


def _first(fd: int, size: object) -> Head:
    """A checksum of the first bytes, if so many are there, which tells a file from another one."""
    if not isinstance(size, int) or not 0 < size <= MAX_FIRST:
        return {}
    data = os.pread(fd, size, 0)
    return {"first": zlib.crc32(data) if len(data) == size else -1}


def _packed_lines(lines: List[Found]) -> bytes:  # noqa: UP006
    """A line with the places, then the lines; fewer where all are too many for a frame."""
    while True:
        places = json.dumps([at for at, _ in lines]).encode()
        body = b"\n".join([places, *(line for _, line in lines)])
        if len(body) <= MAX_BODY:
            return body
        lines = [*lines[:-1:2], lines[-1]]


def serve(
    path: str,
    make: Callable[..., Service] = Service,
    source: int = 0,
    sink: int = 1,
    why: str = "",
) -> int:
    """Answer what comes from `source` on `sink` until it ends; returns the exit code.

    `why` is told: "none" where there is no train-monitor, else the exit code of the one there is.
    """
    pending = b""

    def pause(seconds: float) -> bool:
        return bool(pending) or bool(select.select([source], [], [], seconds)[0])

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
        write(GREETING + encode_frame({**service.hello(), "why": why}))
        while True:
            head, _ = read_frame(read)
            answer, body = service.answer(head)
            write(encode_frame(answer, body, _level(head.get("level"))))
    except EOFError:
        return 0
    except (OSError, ProtocolError):
        return 1


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= MAX_WAIT else 0.0


def _level(value: object) -> int:
    """How hard to compress: a slow link is worth more of the host's time."""
    return value if isinstance(value, int) and 1 <= value <= 6 else 1


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
