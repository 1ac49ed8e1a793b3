"""`events.jsonl`: the only module that appends to it."""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from typing import Any

from shared.files import AppendLog
from shared.json_text import Json, encode_line
from shared.run.directory import RunDirectory
from shared.run.state import StateFile

#: Called with every event. Must not block; exceptions are ignored.
Listener = Callable[[Json], None]


class EventLog:
    """Appends events. For the holder of the run's lock; any thread may append.

    Every event has `time`, `event` (its kind), `step` and `attempt`. Other keys are free.

    A failed append (a full disk) does not raise: the event waits in memory and is written before
    the next one. `close` tries once more and raises OSError if an event is still unwritten.
    """

    def __init__(
        self,
        run: RunDirectory,
        state: StateFile,
        *,
        listener: Listener | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises OSError when the file cannot be opened."""
        self.lines = AppendLog(run.events_path)
        self._state = state
        self._listener = listener
        self._clock = clock
        self._appending = threading.Lock()

    def append(self, kind: str, /, **fields: Any) -> None:
        """Append an event of this kind."""
        record = {
            "time": self._clock(),
            "event": kind,
            "step": self._state.fields["current_step"],
            "attempt": self._state.fields["attempt"],
            **fields,
        }
        with self._appending:
            self.lines.append(encode_line(record))
        if self._listener is not None:
            with contextlib.suppress(Exception):
                self._listener(record)

    def close(self) -> None:
        """Write what waits and close the file. Raises OSError if that fails; the file is closed."""
        self.lines.close()
        if self.lines.waiting:
            problem = self.lines.problem
            number = problem.errno if problem and problem.errno else errno.EIO
            words = problem.strerror if problem and problem.strerror else "Cannot write"
            raise OSError(number, words, str(self.lines.path))
