"""Python's search for cyclic garbage leaves out what the session has loaded.

A full search looks at every object there is. Torch, transformers and seven thousand tests are two
million of them, so that each search would take half a second, several times in a test.
"""

from __future__ import annotations

import gc
import sys

#: So many new modules are worth leaving out, too.
MODULES = 200
#: A training ends by putting everything back. Once in so many times, all of it is searched.
THAWS = 25


class Freezer:
    """Keeps what was there before a test out of every search during it."""

    def __init__(self) -> None:
        self._modules = 0
        self._thaws = 0
        self._thawed = False
        self._unfreeze = gc.unfreeze

    def install(self) -> None:
        """Notice from now on who puts everything back."""
        gc.set_threshold(10_000, 10, 10)
        gc.unfreeze = self._note_thaw

    def freeze(self) -> None:
        """Leave out what is there, if there is much of it."""
        if not self._thawed and len(sys.modules) - self._modules < MODULES:
            return
        self._thaws += self._thawed
        if self._thawed and self._thaws % THAWS == 0:
            gc.collect()
        gc.freeze()
        self._thawed, self._modules = False, len(sys.modules)

    def _note_thaw(self) -> None:
        self._unfreeze()
        self._thawed = True
