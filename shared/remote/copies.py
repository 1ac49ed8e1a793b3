"""The files of a copy: each is a true beginning of the host's, or all of it, or says what it lacks.

Answers are taken in any order and at any time: what does not continue a file exactly where it ends
here is dropped, and a file that is another one by now begins again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.files import replace_file
from shared.remote.listing import Remote
from shared.run.sketch import Sketch, read_sketch, remove_sketch, write_sketch
from shared.text import format_bytes

#: Bytes of all copies of a host together: a laptop's disk is no place for a cluster's logs.
LIMIT = 8 << 30
RESERVE, RESERVED_SHARE = (
    1 << 30,
    10,
)  # of the disk, left free: so many bytes, or one part of so many
OVERLAP = 512  # bytes that show whether a file is still the one that was read
FIRST = 256  # bytes at its beginning that do
MOST_LINES = 2_700  # of a sketch


def free_and_total(folder: Path) -> tuple[int, int]:
    """Bytes of the disk below a folder. Raises OSError."""
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total


@dataclass(frozen=True)
class Space:
    """How much a copy may take, in bytes, and how much is free of how much."""

    limit: int = LIMIT
    free: Callable[[Path], tuple[int, int]] = free_and_total


class FullError(Exception):
    """There is no room for more."""


@dataclass(eq=False)
class Copy:
    """What of a growing file is here: its first `size` bytes. Another object for another file."""

    path: str
    inode: int
    size: int = 0
    #: The size on the host, as it was said last.
    end: int = 0
    first: bytes = b""
    #: Whether it is known to be a beginning of the host's file since the link was made.
    checked: bool = True
    #: What was asked for, up to this byte, and will come.
    asked: int = 0
    #: Of its sketch: the bytes that it is of, lines asked for, when, and whether it was checked.
    sketched: int = 0
    samples: int = 0
    sketched_at: float = -1e9
    sketch_checked: bool = True
    #: Whether a sketch is on its way, or the host cannot make any.
    sketching: bool = False
    unsketched: bool = False

    @property
    def missing(self) -> int:
        """Bytes that are not here."""
        return max(0, self.end - self.size)

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return self.checked and self.size >= self.end


@dataclass
class Parts:
    """A file that is fetched whole: what came of it so far."""

    size: int
    asked: int = 0
    tries: int = 1
    came: list[bytes] = field(default_factory=list)
    identity: tuple[Any, ...] | None = None


class Copies:
    """The files below `root`. `place(path)` is where the copy of a path is."""

    def __init__(self, root: Path, place: Callable[[str], Path], space: Space) -> None:
        self._root, self.place, self._space = root, place, space
        self.growing: dict[str, Copy] = {}
        self.parts: dict[str, Parts] = {}
        self._held: dict[str, int] = {}
        #: Bytes of all copies.
        self.total = 0
        self._unwritten: dict[str, str] = {}  # why files could not be written

    @property
    def problem(self) -> str:
        """What is not copied for want of room, in a sentence; empty if nothing."""
        why = next(iter(self._unwritten.values()), None)
        if why is None:
            return ""
        count = len(self._unwritten)
        files = "One file is" if count == 1 else f"{count:,} files are"
        return f"{files} not copied in full: {why}."

    def reconnected(self) -> None:
        """Nothing that was asked for will come, and nothing is taken on trust."""
        self.parts.clear()
        for copy in self.growing.values():
            copy.checked, copy.asked = False, copy.size
            copy.sketch_checked, copy.sketching = False, False

    def begin(self, path: str, inode: int) -> Copy:
        """An empty file, which readers take for another one than that before.

        Raises OSError and FullError.
        """
        here = self.place(path)
        remove_sketch(here)
        with self._written(path):
            replace_file(here, b"", durable=False)
        copy = self.growing[path] = Copy(path, inode)
        self._hold(path, 0)
        return copy

    def forget(self, path: str) -> None:
        """The path is gone, or is something else now."""
        if self.growing.pop(path, None) is not None:
            remove_sketch(self.place(path))
        self.parts.pop(path, None)
        self._unwritten.pop(path, None)
        self.total -= self._held.pop(path, 0)

    def make_hole(self, path: str, entry: Remote) -> None:
        """A file of that size without content. Raises OSError."""
        with self.place(path).open("wb") as file:
            file.truncate(entry.size)

    def put_whole(self, path: str, data: bytes) -> None:
        """All of a file. Raises OSError and FullError."""
        self._make_room(path, len(data))
        with self._written(path):
            replace_file(self.place(path), data, durable=False)
        self._hold(path, len(data))

    def take_piece(
        self, copy: Copy, start: int, first: bytes, told: dict[str, Any], data: bytes
    ) -> None:
        """Bytes from `start` on, with an overlap before it; `first` are those that the host was
        asked to compare. Raises OSError and FullError.
        """
        if self.growing.get(copy.path) is not copy or start != copy.size:
            return  # of a file that is another one by now, or after a piece that did not come
        path, overlap = copy.path, min(copy.size, OVERLAP)
        size = told.get("size")
        same = told.get("inode") == copy.inode and isinstance(size, int) and size >= copy.size
        if same and first and "first" in told:
            same = told["first"] == zlib.crc32(first)
        here = self.place(path)
        fresh = data[overlap:]
        self._make_room(path, len(fresh))
        with self._written(path), here.open("r+b") as file:
            file.seek(copy.size - overlap)
            if not same or data[:overlap] != file.read(overlap):
                inode = told.get("inode")
                again = self.begin(path, inode if isinstance(inode, int) else -1)
                again.end = size if isinstance(size, int) else 0
                return
            file.seek(copy.size)
            file.write(fresh)
        copy.first += fresh[: max(0, FIRST - len(copy.first))]
        copy.size += len(fresh)
        copy.end, copy.checked = max(size or 0, copy.size), True
        self._hold(path, copy.size)
        if copy.whole and copy.sketched:
            remove_sketch(here)
            copy.sketched = copy.samples = 0

    def take_sketch(
        self, copy: Copy, samples: int, start: int, told: dict[str, Any], data: bytes
    ) -> None:
        """Lines of it from `start` on, where the last line of the sketch that there was begins.

        Raises OSError and FullError.
        """
        if self.growing.get(copy.path) is not copy:
            return
        path, copy.sketching = copy.path, False
        size, inode = told.get("size"), told.get("inode")
        if inode != copy.inode or not isinstance(size, int) or size < max(copy.size, copy.sketched):
            self.begin(path, inode if isinstance(inode, int) else -1).end = (
                size if isinstance(size, int) else 0
            )
            return
        found = _lines(data)
        here = self.place(path)
        before = read_sketch(here) if start else None
        copy.end, copy.sketched_at = size, time.monotonic()
        if start and before is not None and before.lines:
            if not found or found[0] != before.lines[-1]:
                self.begin(path, copy.inode).end = size  # written anew, in place
                return
            sketch = before.joined(size, found, MOST_LINES)
        else:
            sketch = Sketch(size, copy.inode, found)
        if copy.whole or not sketch.lines:
            copy.unsketched = not sketch.lines
            return
        with self._written(path):
            write_sketch(here, sketch)
        copy.sketched, copy.samples, copy.sketch_checked = size, samples, True

    def last_sketched(self, path: str) -> int:
        """Where the last line of a file's sketch begins; 0 without one."""
        sketch = read_sketch(self.place(path))
        return sketch.lines[-1][0] if sketch is not None and sketch.lines else 0

    def set_time(self, path: str, mtime: int) -> None:
        """The time of the last write in ns."""
        with contextlib.suppress(OSError, OverflowError):
            os.utime(self.place(path), ns=(mtime, mtime))

    # -- room --------------------------------------------------------------------------------

    def _hold(self, path: str, size: int) -> None:
        self.total += size - self._held.get(path, 0)
        self._held[path] = size
        if size:
            self._unwritten.pop(path, None)

    def _make_room(self, path: str, more: int) -> None:
        """Raises FullError where so many bytes more would be too many."""
        free, total = self._space.free(self._root)
        if self.total + more > self._space.limit:
            why = f"copies take at most {format_bytes(self._space.limit)}; watch fewer runs"
        elif free - more < min(RESERVE, total // RESERVED_SHARE):
            why = f"only {format_bytes(free)} are free in TMPDIR; free some space there"
        else:
            return
        self._unwritten[path] = why
        raise FullError(why)

    @contextlib.contextmanager
    def _written(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                why = f"{error.strerror or 'the disk is full'}; free some space in TMPDIR"
                self._unwritten[path] = why
                raise FullError(why) from error
            raise


def _lines(data: bytes) -> tuple[tuple[int, bytes], ...]:
    """The lines of a sketch, as the host sent them; none of an answer that makes no sense."""
    head, _, rest = data.partition(b"\n")
    try:
        places = json.loads(head)
    except (ValueError, RecursionError):
        return ()
    lines = rest.split(b"\n")
    if not isinstance(places, list) or len(places) != len(lines):
        return ()
    if not all(type(at) is int and 0 <= at < 1 << 62 for at in places):
        return ()
    return tuple(sorted(zip(places, lines, strict=True)))
