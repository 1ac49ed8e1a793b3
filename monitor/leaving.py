"""Leaving: the terminal is restored, whatever ends the program."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import select
import shlex
import signal
import sys
import termios
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from monitor.data.views import RunView
from shared.text import one_line

HANGUP = 1.0  # seconds between checks that the terminal is still there
_GRACE = 1.0  # seconds for an orderly exit after a signal
_FRAMES = 4  # of our own code that a fault report shows
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Mouse, focus, pastes and keys as the terminal had them; the cursor; the screen before ours.
_RESTORED = (
    b"\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[?7h"
    b"\x1b[?1049l\x1b[?25h"
)


class Leaving:
    """Ends the app on SIGINT, SIGTERM and SIGHUP, and when the terminal has gone.

    `leave(code)` ends the app in order. `kill(code)` ends the process if that takes longer than
    `grace` seconds, such as while the app waits for a disk. `begun` is set once nobody looks at
    the screen any more.
    """

    def __init__(
        self,
        leave: Callable[[int], None],
        *,
        grace: float = _GRACE,
        kill: Callable[[int], object] = os._exit,
    ) -> None:
        self._leave, self._grace, self._kill = leave, grace, kill
        self._settings: list[Any] | None = None
        self._before: dict[int, Any] = {}
        self.begun = threading.Event()

    def handle_signals(self) -> None:
        """Install the handlers, where this is the main thread of a running event loop."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        with contextlib.suppress(termios.error, ValueError, OSError):
            self._settings = termios.tcgetattr(0)

        def handle(number: int, _frame: FrameType | None) -> None:
            # Not through the loop, which cannot run while the app computes or waits for a disk.
            self._cut_short(number)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the app is ending
                loop.call_soon_threadsafe(self._leave, 128 + number)

        for number in _SIGNALS:
            self._before[number] = signal.signal(number, handle)

    def release_signals(self) -> None:
        """Put back the handlers that were there, for a process that lives on."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def terminate(self, number: int) -> None:
        """Leave as after this signal."""
        self._cut_short(number)
        self._leave(128 + number)

    def _cut_short(self, number: int) -> None:
        """Textual writes to the terminal on its way out; one that has gone can block that."""
        self.begun.set()
        # The plainest of threads: a signal may come while `threading` holds its own locks.
        _thread.start_new_thread(self._end_in_time, (128 + number,))

    def _end_in_time(self, code: int) -> None:
        time.sleep(self._grace)
        if self._settings is not None:
            with contextlib.suppress(termios.error, OSError):
                termios.tcsetattr(0, termios.TCSANOW, self._settings)
                poll = select.poll()
                poll.register(2, select.POLLOUT)
                if poll.poll(0):  # it takes the bytes at once
                    os.write(2, _RESTORED)
        self._kill(code)

    def check_terminal(self) -> None:
        """Leave when the terminal has hung up and no SIGHUP has reached us."""
        poll = select.poll()
        poll.register(sys.__stdin__ or 0, 0)
        if poll.poll(0) and not self.begun.is_set():
            self.terminate(signal.SIGHUP)


def suspend(headless: bool) -> str:
    """Stop until a shell continues this process; returns why not, if nobody would.

    Only a foreground job of a terminal stops: the signal reaches its whole process group, which
    without a terminal (`headless`) may be a script, a test run or a CI job.
    """
    try:
        foreground = not headless and os.tcgetpgrp(0) == os.getpgrp()
        alone = os.getsid(os.getppid()) != os.getsid(0)
    except OSError:
        foreground, alone = False, True
    if alone or not foreground:
        return "There is no shell to suspend to; q quits, and training continues."
    os.killpg(0, signal.SIGTSTP)  # the whole job, as the terminal itself would do
    return ""


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
        what, which = f"{name} is still training", shlex.quote(name)
    else:
        what, which = f"{len(alive)} runs are still training", "RUN"
    place = "" if folder == "runs" else f" --runs-dir {shlex.quote(folder)}"
    return f"{what}. Watch again: train-monitor{place}   Stop: trainer stop {which}{place}"
