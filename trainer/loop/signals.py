"""Stop signals: the first lets the loop finish its step and save, the second exits at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopSignals:
    """While entered, `received` is the name of the first stop signal, or None."""

    def __init__(self, leave: Callable[[int], object] = os._exit, together: float = 0.0) -> None:
        """`leave` ends the process at once, with an exit code.

        Signals within `together` seconds are one: several may pass it on to this process.
        """
        self._leave = leave
        self._together = together
        self._at = 0.0
        self.received: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and time.monotonic() - self._at >= self._together:
            message = b"\n[WARN] second signal: exiting at once; the last checkpoint is kept\n"
            os.write(2, message)
            self._leave(128 + number)
        if self.received is None:
            self.received, self._at = signal.Signals(number).name, time.monotonic()

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            # A signal that is ignored stays ignored: nohup wants to outlive the terminal.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
