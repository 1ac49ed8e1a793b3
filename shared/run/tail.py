"""Following the complete lines of a growing file through truncation, replacement and rotation."""

from __future__ import annotations

import os
import stat as kinds
from dataclasses import dataclass
from pathlib import Path

READ_SIZE = 1 << 20
FINGERPRINT_SIZE = 256
NEWEST_SIZE = 512  # longer than the usual line
#: A longer line is dropped as junk, so that a file without newlines cannot fill memory.
MAX_LINE = 64 << 20


@dataclass(frozen=True)
class Chunk:
    """The result of one read: a block of complete lines (each ends in `\\n`), possibly empty.

    `restarted`: the file was replaced, truncated or rewritten, so forget what came earlier. `more`:
    another read would return more immediately.
    """

    lines: bytes
    restarted: bool
    more: bool


@dataclass(frozen=True)
class Piece:
    """The next bytes of a file; `restarted` and `more` as in `Chunk`.

    `written_at` is the time of the last write in Unix seconds, 0 where nothing could be read.
    """

    data: bytes
    restarted: bool
    more: bool
    written_at: float = 0.0


class ByteTail:
    """Reads the new bytes of `path`.

    The file counts as a new one when its device or inode changes, when it is shorter than what was
    read, or when its first bytes or the last bytes that were read have changed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._offset = 0
        self._fingerprint = b""
        self._newest = b""
        self._restarted = False

    @property
    def offset(self) -> int:
        """Bytes of the current file read so far."""
        return self._offset

    def read(self, max_bytes: int = READ_SIZE) -> Piece:
        """At most the next `max_bytes`; nothing of a file that is missing or unreadable."""
        nothing = Piece(b"", restarted=False, more=False)
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # for pipes
        except OSError:
            return nothing
        try:
            if not kinds.S_ISREG(os.fstat(fd).st_mode):
                return nothing  # a device may have no end
            # Kept until it is returned: the read below may still fail.
            self._restarted |= self._check_identity(fd)
            written_at = os.fstat(fd).st_mtime
            data = os.pread(fd, max_bytes, self._offset)
        except OSError:
            return nothing
        finally:
            os.close(fd)
        restarted, self._restarted = self._restarted, False
        if len(self._fingerprint) < FINGERPRINT_SIZE and self._offset == len(self._fingerprint):
            self._fingerprint += data[: FINGERPRINT_SIZE - len(self._fingerprint)]
        self._offset += len(data)
        self._newest = (self._newest + data[-NEWEST_SIZE:])[-NEWEST_SIZE:]
        return Piece(data, restarted, len(data) == max_bytes, written_at)

    def rewind(self) -> None:
        """Read the file from its beginning again."""
        self._offset = 0
        self._fingerprint = b""
        self._newest = b""

    def skip_to(self, offset: int, fd: int) -> bool:
        """Continue at `offset`, the start of a line, as if everything before it had been read.

        `fd` is the file in which another reader has read it. False, with nothing skipped, if it is
        not the followed file or is too short.
        """
        stat = os.fstat(fd)
        if (stat.st_dev, stat.st_ino) != self._identity or stat.st_size < offset:
            return False
        start = max(0, offset - NEWEST_SIZE)
        newest = os.pread(fd, offset - start, start)
        if len(newest) < offset - start or offset < self._offset:
            return False
        self._offset, self._newest = offset, newest
        return True

    def _check_identity(self, fd: int) -> bool:
        stat = os.fstat(fd)
        identity = (stat.st_dev, stat.st_ino)
        first = self._identity is None
        same = identity == self._identity and stat.st_size >= self._offset
        if same and self._fingerprint:
            same = os.pread(fd, len(self._fingerprint), 0) == self._fingerprint
        if same and self._offset > FINGERPRINT_SIZE:
            start = self._offset - len(self._newest)
            same = os.pread(fd, len(self._newest), start) == self._newest
        self._identity = identity
        if same or first:
            return False
        self.rewind()
        return True


class LineSplitter:
    """Puts pieces of text together again as complete lines. The torn last line is held back."""

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._partial: list[bytes] = []
        self._partial_size = 0
        self._skipping = False
        self.overlong_lines = 0

    @property
    def torn(self) -> bytes:
        """The last line, whose newline has not arrived yet."""
        if len(self._partial) > 1:
            self._partial = [b"".join(self._partial)]
        return self._partial[0] if self._partial else b""

    def feed(self, data: bytes) -> bytes:
        """The lines completed by `data`."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._keep(data)
            return b""
        head, rest = data[:end], data[end:]
        if self._skipping:
            head = head[head.find(b"\n") + 1 :]
            self._skipping = False
        lines = b"".join((*self._partial, head)) if self._partial else head
        self._partial.clear()
        self._partial_size = 0
        self._keep(rest)
        return lines

    def _keep(self, data: bytes) -> None:
        if not data or self._skipping:
            return
        self._partial.append(data)
        self._partial_size += len(data)
        if self._partial_size > self._max_line:
            self._partial.clear()
            self._partial_size = 0
            self._skipping = True
            self.overlong_lines += 1


class Tailer:
    """Reads the new complete lines of `path`; see `ByteTail` for when it counts as a new file."""

    def __init__(self, path: Path, max_line: int = MAX_LINE) -> None:
        self.path = path
        self._bytes = ByteTail(path)
        self._max_line = max_line
        self._lines = LineSplitter(max_line)

    @property
    def offset(self) -> int:
        """Bytes of the current file read so far, including the torn line."""
        return self._bytes.offset

    @property
    def overlong_lines(self) -> int:
        """Lines that were dropped because they are longer than the limit."""
        return self._lines.overlong_lines

    def read(self, max_bytes: int = READ_SIZE) -> Chunk:
        """The next complete lines, from at most `max_bytes` of the file.

        A file that is missing or unreadable gives an empty chunk.
        """
        piece = self._bytes.read(max_bytes)
        if piece.restarted:
            self._lines = LineSplitter(self._max_line)
        return Chunk(self._lines.feed(piece.data), piece.restarted, piece.more)
