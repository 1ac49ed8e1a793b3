"""The request log, written by its own thread: a reader that stalls must not stall the answers."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TextIO

WAITING = 10_000  # lines at most; further ones are dropped and counted


class LogLines:
    """Accepts lines without waiting and prints them in order, to `output` or standard output."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output
        self._lines: queue.Queue[str] = queue.Queue(WAITING)
        self._lost = 0
        self._thread: threading.Thread | None = None

    def put(self, line: str) -> None:
        """Print `line` soon. It is dropped if too many wait, as with a paused terminal."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            lost, self._lost = self._lost, 0
            with contextlib.suppress(OSError, ValueError):  # the reader is gone
                print(line, file=self._output, flush=True)
                if lost:
                    message = f"{lost} lines of the log were dropped: nobody read them in time"
                    print(message, file=self._output, flush=True)
