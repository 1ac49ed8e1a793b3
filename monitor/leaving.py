"""Leaving: the terminal is restored, whatever ends the program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from monitor.data.views import RunView
from shared.text import one_line

HANGUP = 1.0  # seconds between checks that the terminal is still there
_GRACE = 3.0  # seconds for an orderly exit after a signal
_FRAMES = 4  # of our own code that a fault report shows


class Leaving:
    """Ends the app on SIGTERM, on SIGHUP, and when the terminal has gone.

    `leave(code)` ends the app in order. `kill(code)` ends the process if that takes longer than
    `grace` seconds. `begun` is set once nobody looks at the screen any more.
    """

    def __init__(
        self,
        leave: Callable[[int], None],
        *,
        grace: float = _GRACE,
        kill: Callable[[int], object] = os._exit,
    ) -> None:
        self._leave, self._grace, self._kill = leave, grace, kill
        self.begun = threading.Event()

    def handle_signals(self) -> None:
        """Install the handlers in the running event loop, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
                loop.add_signal_handler(number, self.terminate, number)

    def terminate(self, number: int) -> None:
        """Leave as after this signal."""
        self.begun.set()
        self._leave(128 + number)
        # Textual writes to the terminal on its way out; a terminal that has gone can block that.
        last_resort = threading.Timer(self._grace, self._kill, (128 + number,))
        last_resort.daemon = True
        last_resort.start()

    def check_terminal(self) -> None:
        """Leave when the terminal has hung up and no SIGHUP has reached us."""
        poll = select.poll()
        poll.register(sys.__stdin__ or 0, 0)
        if poll.poll(0) and not self.begun.is_set():
            self.terminate(signal.SIGHUP)


def fault(error: BaseException) -> list[str]:
    """What to print of an uncaught error: what it is, where, and that training goes on."""
    root = Path(__file__).parents[1]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_ours(f, root)]
    return [
        f"train-monitor: {type(error).__name__}: {one_line(error, 300)}",
        *[f"  {Path(f.filename).relative_to(root)}:{f.lineno} in {f.name}"
          for f in reversed(frames[-_FRAMES:])],
        "This is a bug in the monitor; training continues. Please report these lines.",
    ]  # fmt: skip


def _is_ours(frame: traceback.FrameSummary, root: Path) -> bool:
    return any(Path(frame.filename).is_relative_to(root / room) for room in ("monitor", "shared"))


def farewell(runs: Iterable[RunView], runs_dir: Path) -> str:
    """What to know on leaving while some of `runs` train; empty if none does."""
    alive = [run for run in runs if run.alive]
    if not alive:
        return ""
    folder = one_line(runs_dir)
    if len(alive) == 1:
        name = one_line(alive[0].run_id, 120)
        what, which = f"{name} is still training", name
    else:
        what, which = f"{len(alive)} runs are still training", "RUN"
    again = "train-monitor" + ("" if folder == "runs" else f" --runs-dir {folder}")
    stop = f"trainer stop {which}" + ("" if folder == "runs" else f" --runs-dir {folder}")
    return f"{what}. Watch again: {again}   Stop: {stop}"
