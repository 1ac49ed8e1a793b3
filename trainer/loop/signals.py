"""Stop signals: the first lets the loop finish its step and save, the second exits at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopSignals:
    """While entered, `received` is the name of the first stop signal, or None."""

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        """`leave` ends the process at once, with an exit code."""
        self._leave = leave
        self.received: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            message = b"\n[WARN] second signal: exiting at once; the last checkpoint is kept\n"
            os.write(2, message)
            self._leave(128 + number)
        self.received = signal.Signals(number).name

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
