"""Ending a command by a signal: temporary files are removed and child processes ended first."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import termios
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 0.5  # seconds for the orderly way out


class SignalledError(BaseException):
    """A signal ends this process; raised in the main thread so that everything open is left."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SignalledError, the first time; the second ends at once.

    Commands with an ending of their own, such as training, replace these handlers meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, _raise)
        for number in _SIGNALS
        if signal.getsignal(number) is signal.SIG_DFL  # nohup ignores SIGHUP
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def reading_a_line() -> Iterator[None]:
    """End the process within a second of a signal, also if `input` does not notice it.

    Python's readline waits for a key without looking for a signal that came just before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    settings = None
    with contextlib.suppress(termios.error, OSError):
        settings = termios.tcgetattr(0)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    done = threading.Event()

    def watch() -> None:
        with os.fdopen(reader, "rb", buffering=0) as told:
            while number := told.read(1):
                if number[0] in _SIGNALS and not done.wait(_PATIENCE):
                    if settings is not None:
                        termios.tcsetattr(0, termios.TCSANOW, settings)
                    os._exit(128 + number[0])

    threading.Thread(target=watch, name="signals", daemon=True).start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        os.close(writer)


def end_by(number: int) -> NoReturn:
    """End this process by the signal itself, so that whoever waits for it sees that."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _raise(number: int, _frame: FrameType | None) -> None:
    for each in _SIGNALS:
        if signal.getsignal(each) is _raise:
            signal.signal(each, signal.SIG_DFL)
    raise SignalledError(number)
