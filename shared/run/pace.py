"""The pace of a run: the usual time of a step, and the time left."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

WINDOW = 512  # steps
_DECAY = 0.9


class Pace:
    """Measures finished steps by a monotonic clock.

    `step_seconds` is a moving average of single steps. The time left is estimated from the last
    `WINDOW` steps including everything between them, such as evaluations and saves. The first step
    of an attempt, which compiles and warms up, and pauses do not count, nor does the time in which
    the process was stopped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.step_seconds: float | None = None
        self._clock = clock
        self._ticks: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._last_tick = clock()
        self._stopped = False

    @property
    def idle_seconds(self) -> float:
        """Seconds since the last progress: a finished step, or a call of `other_work`."""
        return self._clock() - self._last_tick

    def finished(self, step: int, milliseconds: object) -> None:
        """A step is finished; `milliseconds` is its duration, if known."""
        tick = self._clock()
        if self._stopped:
            self._stopped = False
            self._ticks.clear()
        previous = self._ticks[-1][0] if self._ticks else None
        self._ticks.append((step, tick))
        seconds: float | None = None
        if previous is not None:
            if isinstance(milliseconds, (int, float)):
                seconds = milliseconds / 1000
            elif step > previous:
                seconds = (tick - self._last_tick) / (step - previous)
        if seconds is not None and math.isfinite(seconds):
            old = self.step_seconds
            self.step_seconds = seconds if old is None else _DECAY * old + (1 - _DECAY) * seconds
        self._last_tick = tick

    def other_work(self) -> None:
        """Work other than a step was done."""
        self._last_tick = self._clock()

    def interrupt(self) -> None:
        """The run starts or was paused: earlier steps no longer count."""
        self._ticks.clear()
        self.other_work()

    def stopped(self) -> None:
        """The process was stopped for a while: steps before its next one no longer count.

        From any thread.
        """
        self._stopped = True

    def seconds_to(self, last_step: int) -> float | None:
        """Seconds until `last_step` is finished; None while unknown."""
        if len(self._ticks) < 2:
            return None
        (first, first_tick), (step, tick) = self._ticks[0], self._ticks[-1]
        if step <= first:
            return None
        return max(0, last_step - step) * (tick - first_tick) / (step - first)
