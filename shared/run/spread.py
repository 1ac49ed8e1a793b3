"""Evenly spaced lines of a long file, read at a few hundred places.

It uses the standard library only and runs on Python 3.8: the agent on a host without train-monitor
does it there.
"""

from __future__ import annotations

import os
from typing import List, Optional, Tuple  # noqa: UP035

#: Places without a line end within so many bytes are skipped.
MAX_LINE = 64 << 10
LEAST_READ = 512  # bytes; longer than a typical line plus the partial one before it

#: Where a line begins, and the line without its newline.
Found = Tuple[int, bytes]  # noqa: UP006


def spread_lines(
    fd: int, start: int, end: int, samples: int, least_read: int = LEAST_READ
) -> List[Found]:  # noqa: UP006
    """The lines of [start, end) at about `samples` evenly spaced places, in their order.

    With the first, if one begins at `start`, and the last whole one. At least `least_read` bytes
    are read at each place. Raises OSError.
    """
    lines: List[Found] = []  # noqa: UP006
    last_start = -1
    length = least_read
    places = max(1, samples - 1)
    for i in range(places):
        at = start + i * (end - start) // places
        if at <= last_start:
            continue  # within the line found last
        found = _line_after(fd, at, length)
        if found is None or not last_start < found[0] < end:
            continue
        last_start = found[0]
        lines.append(found)
        length = max(least_read, 2 * len(found[1]))
    found = _last_line(fd, start, end, length)
    if found is not None and found[0] > last_start:
        lines.append(found)
    return lines


def _line_after(fd: int, at: int, length: int) -> Optional[Found]:  # noqa: UP045
    """The first line that begins at or after `at`. None if it is overlong or torn."""
    begin = max(0, at - 1)  # a newline just before makes `at` itself the beginning
    while True:
        data = os.pread(fd, length, begin)
        start = 0 if at == 0 else data.find(b"\n") + 1
        if start or at == 0:
            end = data.find(b"\n", start)
            if end >= 0:
                return begin + start, data[start:end]
        if len(data) < length or length >= MAX_LINE:
            return None
        length = min(MAX_LINE, 4 * length)


def _last_line(fd: int, start: int, end: int, length: int) -> Optional[Found]:  # noqa: UP045
    """The last whole line of [start, end)."""
    while True:
        begin = max(start - 1, 0, end - length)
        data = os.pread(fd, end - begin, begin)
        stop = data.rfind(b"\n")
        at = data.rfind(b"\n", 0, max(0, stop)) + 1
        if stop >= 0 and (at or begin == 0):
            return begin + at, data[at:stop]
        if begin <= max(start - 1, 0) or length >= MAX_LINE:
            return None
        length = min(MAX_LINE, 4 * length)
