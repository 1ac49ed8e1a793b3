"""How long to wait for something, and by which clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

#: Sleeps for so many seconds; returns True to stop waiting.
Pause = Callable[[float], bool]


def sleep(seconds: float) -> bool:
    """A `Pause` that never stops the wait."""
    time.sleep(seconds)
    return False


@dataclass(frozen=True)
class Patience:
    """Limits of a wait, in seconds of `clock`.

    `timeout`: for the whole wait. The default allows for a step of a large model and a checkpoint.
    `gone`: without a trainer or a daemon that could answer. `look`: between two looks.
    """

    timeout: float = 120.0
    gone: float = 15.0
    look: float = 0.1
    clock: Callable[[], float] = time.monotonic
    pause: Pause = sleep


def wait_for(condition: Callable[[], T | None], patience: Patience) -> T | None:
    """The first value of `condition` that is not None or False.

    None when that takes longer than the timeout, or when the pause stopped the wait.
    """
    deadline = patience.clock() + patience.timeout
    while True:
        value = condition()
        if value is not None and value is not False:
            return value
        if patience.clock() >= deadline or patience.pause(patience.look):
            return None
