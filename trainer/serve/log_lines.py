"""Log lines, written beside the event loop: a reader that stalls must not stall the answers."""

from __future__ import annotations

import contextlib
import queue
import threading

WAITING = 10_000  # lines at most; later ones are lost, and counted


class LogLines:
    """Takes lines at once and prints them from a thread of its own, in their order."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue(WAITING)
        self._lost = 0
        self._thread: threading.Thread | None = None

    def put(self, line: str) -> None:
        """Print `line` soon. It is lost when too many wait, as on a terminal that is held."""
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
            with contextlib.suppress(OSError, ValueError):  # nobody reads the log any more
                print(line, flush=True)
                if lost:
                    print(f"{lost} lines of the log are lost: nobody read them", flush=True)
