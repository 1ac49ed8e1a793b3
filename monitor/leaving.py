"""Leaving: the terminal is given back as it was found, whatever ends the program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import traceback
from pathlib import Path

from rich.text import Text
from textual.app import App

from shared.text import one_line

_GRACE = 3.0  # seconds for an orderly way out after a signal
HANGUP = 1.0  # seconds between looks at whether the terminal is still there
_FRAMES = 4  # of our own that are told of a fault


class LeavingApp(App[None]):
    """Ends in order on SIGTERM, SIGHUP, a fault of its own, and when the terminal is gone."""

    def __init__(self, *, ansi_color: bool | None = None) -> None:
        super().__init__(ansi_color=ansi_color)
        self._leaving = threading.Event()  # set once nobody looks at the screen any more

    def on_load(self) -> None:
        """Signals must find the handlers in place before the terminal is taken over."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, self._terminated, number)

    def _terminated(self, number: int) -> None:
        self._leaving.set()
        self.exit(return_code=128 + number)
        # Textual's way out writes to the terminal; one that is gone can hold it up for ever.
        last_resort = threading.Timer(_GRACE, os._exit, (128 + number,))
        last_resort.daemon = True
        last_resort.start()

    def _fatal_error(self) -> None:
        """A few lines in place of pages that show every variable, and so what is in files."""
        error = sys.exception()
        if error is not None:
            self._exit_renderables.append(Text("\n".join(fault(error)), overflow="fold"))
        self._close_messages_no_wait()

    def _check_terminal(self) -> None:
        """Leave when the terminal has hung up without a SIGHUP reaching us."""
        poll = select.poll()
        poll.register(sys.__stdin__ or 0, 0)
        if poll.poll(0) and not self._leaving.is_set():
            self._terminated(signal.SIGHUP)


def fault(error: BaseException) -> list[str]:
    """What to print of an error that nobody caught: what, where, and what becomes of training."""
    root = Path(__file__).parents[1]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_ours(f, root)]
    return [
        f"train-monitor: {type(error).__name__}: {one_line(error, 300)}",
        *[f"  {Path(f.filename).relative_to(root)}:{f.lineno} in {f.name}"
          for f in reversed(frames[-_FRAMES:])],
        "This is a fault of the monitor; training goes on. Please report these lines.",
    ]  # fmt: skip


def _is_ours(frame: traceback.FrameSummary, root: Path) -> bool:
    return any(Path(frame.filename).is_relative_to(root / room) for room in ("monitor", "shared"))
