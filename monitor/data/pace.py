"""How often files are looked at: soon after a pause, seldom while much happens."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """A rate limit: so many reads per second, with a burst after a pause."""

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval, self._burst, self._clock = 1 / per_second, burst, clock
        self._due = clock()

    def wait(self) -> float:
        """Seconds until the next read is due."""
        return max(0.0, self._due - (self._burst - 1) * self._interval - self._clock())

    def take(self) -> None:
        """Count one."""
        self._due = max(self._due, self._clock()) + self._interval


class Thrift:
    """How long to wait between two looks, so that they and what is drawn of them take no more than
    `share` of a core: at least `gap` seconds.
    """

    def __init__(
        self, gap: float, share: float, processor: Callable[[], float] = time.process_time
    ) -> None:
        """`processor` gives the seconds that this process has computed."""
        self._gap, self._share, self._processor = gap, share, processor
        self._before = processor()

    def wait(self) -> float:
        """Seconds to wait, by the cost of the time since the last call."""
        before, self._before = self._before, self._processor()
        return max(self._gap, (self._before - before) / self._share)
