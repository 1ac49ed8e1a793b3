"""How long a trainer has worked on a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

GAP = 15.0  # seconds between two looks from which the process counts as having been stopped


class WorkTime:
    """Seconds of work, added up over all attempts by looks at a monotonic clock.

    What lies between two looks counts, unless the run was paused meanwhile, or the looks are so far
    apart that the process cannot have worked in between: stopped by a signal, or in a suspended
    machine. Any thread may look.
    """

    def __init__(
        self, before: float | None = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`before`: seconds of earlier attempts; None if unknown, and then the sum is too."""
        self._sum, self._clock = before, clock
        self._guard = threading.Lock()
        self._working = True
        self._looked_at = clock()

    @property
    def seconds(self) -> float | None:
        """The seconds until the last look."""
        return self._sum

    def look(self) -> bool:
        """Count the time since the last look; True if the process was stopped meanwhile."""
        with self._guard:
            now = self._clock()
            since, self._looked_at = now - self._looked_at, now
            stopped = since >= GAP
            if self._sum is not None and self._working and not stopped:
                self._sum += since
            return stopped and self._working

    def set_working(self, working: bool) -> None:
        """From now on the run is worked on, or paused."""
        self.look()
        self._working = working
