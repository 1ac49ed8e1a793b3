"""Python's collection of cyclic garbage, at times of the loop's own choosing.

By itself it comes when so many objects were made, in the middle of a step, and looks at everything
that a training has loaded: tenths of a second. A step makes no cycles, so it can wait.
"""

from __future__ import annotations

import gc
from types import TracebackType

#: Steps between collections, if nothing is due. What a step may leave is small, so it is quick.
EVERY = 100


class Garbage:
    """While entered, garbage is collected in `collect_if` only.

    What was there before is left out of every collection: modules, the model, the optimizer.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._was_enabled = False

    def __enter__(self) -> None:
        self._was_enabled = gc.isenabled()
        gc.disable()
        gc.freeze()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        gc.unfreeze()
        if self._was_enabled:
            gc.enable()

    def collect_if(self, due: bool) -> None:
        """Collect after a step, if something else is `due` as well or it is long ago."""
        self._steps += 1
        if due or self._steps >= EVERY:
            self._steps = 0
            gc.collect()
