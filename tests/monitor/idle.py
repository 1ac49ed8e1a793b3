"""When an app under test has done all that a key or a message began.

Textual's pilot asks the clock: it sleeps 20 ms, twice for each key, and longer while the process is
busy with anything. Here the event loop is asked instead, which takes a key's own time.
"""

from __future__ import annotations

import asyncio
import time

from textual.app import ScreenStackError, active_app


async def until_idle(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Return once no callback of the event loop is ready and nothing is left to draw.

    It replaces `textual._wait.wait_for_idle`: `max_sleep` seconds are the most it waits.
    """
    loop = asyncio.get_running_loop()
    deadline = time.monotonic() + max_sleep
    while time.monotonic() < deadline:
        await asyncio.sleep(0)
        if not loop._ready and not _drawn():  # type: ignore[attr-defined]
            return


def _drawn() -> bool:
    """Draw the frame that is due; false if there was none."""
    try:
        screen = active_app.get().screen
    except (LookupError, ScreenStackError):
        return False
    if not screen._update_timer._active.is_set():
        return False
    screen._on_timer_update()
    return True
