"""Records the end of a run whose program ends without telling, such as by an exception."""

from __future__ import annotations

import atexit
import contextlib
import sys
from collections.abc import Callable

from shared.run.ending import Ending, ending_of
from shared.run_writer import RunWriter

_UNTOLD = Ending("failed", 1, "the program ended before its training did")


class Guard:
    """Finishes `writer` when the interpreter exits, unless it was released before.

    A killed process cannot do that: its heartbeat stops, and readers show that it crashed.
    """

    def __init__(
        self,
        writer: RunWriter,
        untold: Ending | None = None,
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        """`untold`: how the run ended when the program exits without an exception.

        `leave` is called then before the end is recorded.
        """
        self._writer = writer
        self._untold = untold or _UNTOLD
        self._leave = leave
        self._earlier = getattr(sys, "last_value", None)  # of a notebook's cell before
        atexit.register(self._exit)

    def release(self) -> None:
        """The run was finished."""
        atexit.unregister(self._exit)

    def _exit(self) -> None:
        error = getattr(sys, "last_value", None)
        self._leave()
        ending = self._untold if error in (None, self._earlier) else ending_of(error)
        with contextlib.suppress(OSError):  # it is told on the console
            self._writer.finish(ending.status, ending.code, ending.reason)
