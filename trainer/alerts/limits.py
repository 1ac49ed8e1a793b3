"""Limiting how often alerts are sent, and counting those held back."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

from trainer.alerts.settings import RateLimit

HOUR = 3600.0
_REMEMBERED = 10_000  # (run, kind) pairs


class RateLimiter:
    """Limits alerts per run and kind, and per hour over all runs. Thread-safe.

    The hourly limit never holds back the end of a run.
    """

    def __init__(self, settings: RateLimit, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._last: dict[tuple[str, str], float] = {}
        self._sent: deque[float] = deque()
        self._suppressed: Counter[str] = Counter()
        self._guard = threading.Lock()

    def admit(self, run_id: str, kind: str, *, is_end: bool) -> bool:
        """Whether an alert may be sent now; if not, it is counted as suppressed."""
        with self._guard:
            return self._admit(run_id, kind, is_end=is_end)

    def _admit(self, run_id: str, kind: str, *, is_end: bool) -> bool:
        now = self._clock()
        while self._sent and now - self._sent[0] >= HOUR:
            self._sent.popleft()
        last = self._last.get((run_id, kind))
        too_soon = last is not None and now - last < self._settings.per_run_seconds
        if too_soon or (not is_end and len(self._sent) >= self._settings.per_hour):
            self._suppressed[run_id] += 1
            return False
        if len(self._last) >= _REMEMBERED:
            self._last.clear()
        self._last[run_id, kind] = now
        self._sent.append(now)
        return True

    def suppress(self, run_id: str, count: int = 1) -> None:
        """Count alerts of this run that were not sent."""
        with self._guard:
            self._suppressed[run_id] += count

    def take_suppressed(self, run_id: str) -> int:
        """How many of this run's alerts were not sent since the last call."""
        with self._guard:
            return self._suppressed.pop(run_id, 0)

    def suppressed(self, run_id: str) -> int:
        """What `take_suppressed` would return; does not reset it."""
        with self._guard:
            return self._suppressed[run_id]
