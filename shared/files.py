"""Files: atomic replacement, and appends with a single write."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import stat
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import UserError
from shared.json_text import encode_json, parse_json
from shared.text import format_bytes, one_line

_counter = itertools.count()
_TEMPORARY = re.compile(r"\..+\.tmp-\d+-\d+")
PENDING_LINES_LIMIT = 100_000
MAX_READ = 64 << 20  # bytes of a file that is read whole; ours have far fewer
#: Errors of filesystems that cannot fsync a folder, or need not.
_NO_FSYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM}


def expand_user(path: str | Path) -> Path:
    """`path` with a leading `~` or `~user` replaced. Raises UserError for an unknown user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{one_line(path)} starts with the home folder of a user that does not exist here; "
            f"give ./{one_line(path)} for a file of that name."
        ) from error


def absolute_path(path: str | Path) -> Path:
    """`path` from the root, `~` and links replaced. Raises UserError for a loop of links."""
    try:
        return expand_user(path).resolve()
    except RuntimeError as error:
        raise UserError(f"{one_line(path)} is a loop of links, which leads nowhere.") from error
    except OSError as error:
        raise UserError(f"{one_line(path)} cannot be used: {error.strerror}.") from error


def fsync_directory(path: Path) -> None:
    """Make renames inside `path` durable, on filesystems that can.

    Raises OSError when the device fails.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(fd)


def fsync_file(path: Path) -> None:
    """Make the bytes of `path` durable.

    Raises OSError when the device fails.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace the content of `path` atomically: readers see the old content or the new.

    `durable=False` skips both fsyncs: safe against a killed process, not against a power cut.
    Raises OSError, and the old content stays. Exception: if the fsync of the folder fails, the new
    content is in place, but a power cut may lose it.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{next(_counter)}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        fsync_directory(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Point the symlink `link` at `target` (relative) atomically."""
    temporary = link.with_name(f".{link.name}.tmp-{os.getpid()}-{next(_counter)}")
    with contextlib.suppress(FileNotFoundError):
        # Left by a killed process with the same pid: in a container the pid is often 1.
        temporary.unlink()
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def remove_temporaries(folder: Path) -> list[str]:
    """Remove the temporary files of killed processes from `folder`; returns their names.

    Only for the sole writer of the folder: the temporary file of a running process looks the same.
    """
    removed: list[str] = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):  # noqa: PTH208
            if _TEMPORARY.fullmatch(name):
                with contextlib.suppress(OSError):
                    (folder / name).unlink()
                    removed.append(name)
    return removed


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises OSError, also for anything else: opening a pipe would block.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "Not a file", str(path))
    return path.open("rb")


def read_bytes(path: Path, limit: int = MAX_READ) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises OSError. A larger file is refused before anything is read.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
        if size > limit or len(data) > limit:
            problem = f"it has {format_bytes(size)}, and at most {format_bytes(limit)} are read"
            raise OSError(errno.EFBIG, problem, str(path))
        return data


def load_json(path: Path, limit: int = MAX_READ) -> dict[str, Any]:
    """The JSON object at `path`. Raises UserError that says what is wrong with it."""
    try:
        value = parse_json(read_bytes(path, limit))
    except OSError as error:
        raise UserError(f"Cannot read {one_line(path)}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{one_line(path)} is not JSON: {one_line(error)}.") from error
    if not isinstance(value, dict):
        raise UserError(f"{one_line(path)} is not a JSON object.")
    return value


def load_json_if_any(path: Path, limit: int = MAX_READ) -> dict[str, Any]:
    """The JSON object at `path`, empty if there is no file. Raises UserError like `load_json`."""
    return load_json(path, limit) if os.path.lexists(path) else {}


def read_json(path: Path, limit: int = MAX_READ) -> dict[str, Any] | None:
    """The JSON object at `path`; None when it is missing, unreadable, not an object, or larger than
    `limit` bytes."""
    try:
        value = parse_json(read_bytes(path, limit))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Replace `path` with `value` as indented JSON; non-finite numbers become null."""
    replace_file(path, encode_json(value, indent=True) + b"\n", durable=durable)


class AppendLog:
    """An append-only file of lines, with one `write()` per line.

    A torn last line is ended with a newline before the first append. A line that cannot be written
    (disk full) waits in memory and is written before the next one; the oldest lines are dropped
    above `pending_limit`. `waiting` is the number of such lines, `problem` the last error. One
    thread at a time may append; any thread may flush.
    """

    def __init__(self, path: Path, pending_limit: int = PENDING_LINES_LIMIT) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o644)
        self._pending: deque[bytes] = deque(maxlen=pending_limit)
        self._flushing = threading.Lock()
        self.problem: OSError | None = None
        self._torn = self._last_line_is_torn()

    def _last_line_is_torn(self) -> bool:
        size = os.fstat(self._fd).st_size
        return size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    @property
    def waiting(self) -> int:
        """Lines that are not in the file yet."""
        return len(self._pending)

    def append(self, line: bytes) -> bool:
        """Write `line`, which has no newline. False when it waits in memory."""
        tried = not self._pending
        if tried and self._write(line):  # the common case takes no lock
            return True
        with self._flushing:
            if not tried and self._flush() and self._write(line):
                return True
            self._pending.append(line)
        return False

    def flush(self) -> bool:
        """Write the waiting lines. True when none is left."""
        with self._flushing:
            return self._flush()

    def _flush(self) -> bool:
        while self._pending and self._write(self._pending[0]):
            self._pending.popleft()
        return not self._pending

    def _write(self, line: bytes) -> bool:
        data = line + b"\n"
        if self._torn:
            data = b"\n" + data
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            self.problem = error
            return False
        missing = len(data) - written
        if written:
            # A short write leaves a torn line: readers skip it, and the line is written again.
            self._torn = missing > 0
        return missing <= 1  # only the newline is missing: it is written before the next line

    def close(self) -> None:
        """Write the waiting lines, fsync and close. Lines that cannot be written are lost."""
        if self._fd < 0:
            return
        self.flush()
        with contextlib.suppress(OSError):
            if self._torn:
                os.write(self._fd, b"\n")
            os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
