"""The thread that keeps a run's files fresh while the training loop works."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.ownership.health import STALLED_AFTER
from shared.ownership.heartbeat import INTERVAL
from shared.ownership.watchdogs import BACKLOG_SECONDS


@dataclass(frozen=True)
class Timings:
    """Intervals and limits in seconds.

    `look`: between looks for requests. `state`: between writes of a changing state. `beat`:
    between heartbeats. `backlog`: records may wait this long before an alarm. `stalled`: a run
    may make no step for this long, at least, before it counts as stalled.
    """

    look: float = 0.25
    state: float = 0.5
    beat: float = INTERVAL
    backlog: float = BACKLOG_SECONDS
    stalled: float = STALLED_AFTER


class Pulse:
    """Calls `save`, `beat`, `watch` and `look` at their intervals, in a thread.

    `save` writes the state if it changed; its OSError is ignored, because the next round tries
    again. `beat` returns the error it met, which `watch` is given. `look` looks for requests.
    """

    def __init__(
        self,
        timings: Timings,
        *,
        save: Callable[[], None],
        beat: Callable[[], OSError | None],
        watch: Callable[[OSError | None], None],
        look: Callable[[], None],
    ) -> None:
        self._timings = timings
        self._save, self._beat, self._watch, self._look = save, beat, watch, look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="run-pulse", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        next_beat = next_state = 0.0
        while True:
            now = time.monotonic()
            if now >= next_state:
                with contextlib.suppress(OSError):  # a full disk must not end the pulse
                    self._save()
                next_state = now + self._timings.state
            if now >= next_beat:
                failure = self._beat()
                with contextlib.suppress(Exception):  # the heart beats on, whatever fails there
                    self._watch(failure)
                next_beat = now + self._timings.beat
            self._look()
            if self._stop.wait(self._timings.look):
                return
