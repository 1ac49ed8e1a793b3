"""Waiting for something that another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

#: Far longer than anything takes on a slow and busy machine; only a test that fails waits so long.
SECONDS = 240.0

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    seconds: float = SECONDS,
    *,
    every: float = 0.01,
    what: Callable[[], object] = lambda: "",
) -> T:
    """Call `condition` until it returns something true, and return that.

    Fails after `seconds`, with what `what` then returns in the message.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain. {what()}"
        time.sleep(every)
    return value
