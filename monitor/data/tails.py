"""The ends of files, and what tells that a file has changed."""

from __future__ import annotations

import os
from pathlib import Path

from shared.files import open_file
from shared.run.sketch import sketch_path, sketched_size
from shared.text import many_lines, one_line

LOG_LINES = 12
_TAIL = 16 << 10  # bytes

Signature = tuple[int, int, int]


def file_signature(path: Path | str) -> Signature | None:
    """What changes whenever the file does; None when there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116  a Path would cost more than the look
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def size_of(path: Path) -> int:
    """Its bytes; 0 when there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def metrics_signature(path: Path) -> Signature | None:
    """What changes whenever a metrics log does, or the sketch that stands for its end."""
    return file_signature(sketch_path(path)) or file_signature(path)


def whole_size(path: Path) -> int:
    """The bytes of a metrics log, also of one whose beginning alone is here."""
    sketched = sketched_size(path)
    return size_of(path) if sketched is None else sketched


def tail(path: Path, size: int = _TAIL) -> bytes:
    """The last `size` bytes; nothing of a file that cannot be read."""
    try:
        with open_file(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)
    except OSError:
        return b""


def tail_lines(path: Path, limit: int = LOG_LINES) -> tuple[str, ...]:
    """The last lines of a text file, safe to show. A progress bar's `\\r` counts as a new line."""
    text = tail(path).decode("utf-8", "replace").replace("\r", "\n")
    lines = [one_line(x, 500) for x in many_lines(text).split("\n")]
    return tuple([x for x in lines if x.strip()][-limit:])
