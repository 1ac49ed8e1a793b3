"""`train.log`: what the console shows, written and read."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from shared.files import AppendLog
from shared.run.directory import RunDirectory
from shared.text import many_lines, one_line

LAST_LINES = 20  # lines of the log in an exit record
_TAIL = 8192  # bytes read from the end


class RunLog:
    """Writes lines to `train.log` and to the console. Any thread may write."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the file cannot be opened."""
        self.lines = AppendLog(path)
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._saying = threading.Lock()
        self._console_is_log = _is_same_file(sys.stdout, path)

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines that this object wrote."""
        return tuple(self._last)

    def say(self, text: str) -> None:
        """Write one or more lines."""
        text = many_lines(text)
        with self._saying:
            for line in text.split("\n"):
                self._last.append(line)
                self.lines.append(line.encode("utf-8", "replace"))
        if not self._console_is_log:
            with contextlib.suppress(OSError, ValueError):
                print(text, flush=True)


def last_log_line(run: RunDirectory) -> str:
    """The last line of `train.log` that is not blank."""
    lines = last_log_lines(run, 1)
    if lines is None:
        return "its log cannot be read"
    return lines[-1] if lines else "its log is empty"


def last_log_lines(run: RunDirectory, count: int = LAST_LINES) -> list[str] | None:
    """The last lines of `train.log` that are not blank; None when it cannot be read."""
    try:
        with run.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    return [one_line(line, 300) for line in lines if line.strip()][-count:]


def _is_same_file(stream: Any, path: Path) -> bool:
    """Whether `stream` already writes to `path`, as the console of a detached run does."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except (OSError, ValueError, AttributeError):
        return False
