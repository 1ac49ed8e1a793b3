"""Problems of a daemon: reported once, retried later, and without effect on other runs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable

from shared.errors import UserError
from shared.ownership.lock import LockHeldError
from shared.text import one_line

RETRY = 5.0  # seconds before a failed action on a run is retried


class Troubles:
    """The present problems, by run id or other subject."""

    def __init__(
        self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say = say
        self._clock = clock
        self._present: dict[str, tuple[str, float]] = {}

    def guard(self, about: str, work: Callable[[str], None]) -> None:
        """Do `work` on a run, unless it failed just now. An error is reported."""
        if about in self._present and self._clock() < self._present[about][1]:
            return
        try:
            work(about)
        except LockHeldError:
            pass  # another process is acting on it: the next round shows who
        except (OSError, UserError) as error:
            self.report(about, f"{one_line(about)}: {one_line(error, 300)}")
        except Exception:  # a bug here must not affect the other runs
            self.report(about, f"{one_line(about)}: {traceback.format_exc().rstrip()}")
        else:
            self.over(about)

    def report(self, about: str, message: str) -> None:
        """Report a problem, unless it is the same as before."""
        if self._present.get(about, ("", 0.0))[0] != message:
            self._say(message)
        self._present[about] = (message, self._clock() + RETRY)

    def over(self, about: str) -> None:
        """The problem is over."""
        self._present.pop(about, None)
