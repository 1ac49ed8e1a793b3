"""The log of a daemon: lines on the console and in a file of limited size."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from pathlib import Path

from shared.text import many_lines

MAX_BYTES = 1_000_000  # of daemon.log; the last two files are kept


class _QuietHandler(logging.handlers.RotatingFileHandler):
    """On a full disk, lines are lost, but the daemon and its console continue."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """Drop the line."""


class DaemonLog:
    """Writes lines with a timestamp."""

    def __init__(self, path: Path, *, console: bool) -> None:
        """Raises OSError when the file cannot be opened."""
        self._logger = logging.Logger("daemon")
        form = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
        file = _QuietHandler(path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8")
        handlers: list[logging.Handler] = [file]
        if console:
            handlers.append(logging.StreamHandler(sys.stderr))
        for handler in handlers:
            handler.setFormatter(form)
            self._logger.addHandler(handler)

    def say(self, message: str) -> None:
        """Write one line, or the lines of a traceback."""
        self._logger.info("%s", many_lines(message))

    def close(self) -> None:
        """Close the file."""
        for handler in self._logger.handlers:
            handler.close()
