"""How fast a run goes: the usual time of a step, and when the last one will be done."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

WINDOW = 512  # steps
_DECAY = 0.9


class Pace:
    """Fed with every finished step. Uses the monotonic clock: a changed wall clock bends nothing.

    `step_seconds` is a moving average of single steps. The time left is reckoned from the last
    `WINDOW` steps with all that came between them, evaluations and saves included; an attempt's
    first step, which compiles and warms up, and pauses do not count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.step_seconds: float | None = None
        self._clock = clock
        self._ticks: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._last_tick = clock()

    @property
    def idle_seconds(self) -> float:
        """Seconds since work last went on: a step was done, or `other_work` said so."""
        return self._clock() - self._last_tick

    def finished(self, step: int, milliseconds: object) -> None:
        """A step is done; `milliseconds` is what it took, if that is known."""
        tick = self._clock()
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
        """Time since the last step went into something that is no step."""
        self._last_tick = self._clock()

    def interrupt(self) -> None:
        """The run was paused, or begins: what lies before is no measure of what comes."""
        self._ticks.clear()
        self.other_work()

    def seconds_to(self, last_step: int) -> float | None:
        """Seconds until `last_step` is done; None while nothing is known."""
        if len(self._ticks) < 2:
            return None
        (first, first_tick), (step, tick) = self._ticks[0], self._ticks[-1]
        if step <= first:
            return None
        return max(0, last_step - step) * (tick - first_tick) / (step - first)
