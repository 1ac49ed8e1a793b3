"""One thread per way of telling: it waits, tries and gives up without holding up anything else."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from trainer.alerts.alert import Alert
from trainer.alerts.sinks import DeliveryError, Sink, back_off

QUEUE_SIZE = 100
_NO_LIMIT = 1e9


class Courier:
    """Delivers alerts to one sink in a thread of its own, which never keeps a process alive.

    `warn` is told of a failure once, until a delivery succeeds again.
    """

    def __init__(
        self,
        sink: Sink,
        warn: Callable[[str], None],
        lost: Callable[[Alert], None],
        back_off: Callable[[int], float] = back_off,
    ) -> None:
        """`lost` is called with each alert that could not be delivered."""
        self._sink = sink
        self._warn = warn
        self._lost = lost
        self._back_off = back_off
        self._queue: queue.Queue[Alert | None] = queue.Queue(QUEUE_SIZE)
        self._closing = threading.Event()
        self._deadline = _NO_LIMIT  # on the monotonic clock
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="alert-courier", daemon=True)
        self._thread.start()

    def send(self, alert: Alert) -> bool:
        """Queue an alert; False when too many wait already. Never blocks."""
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            return False
        return True

    def close(self, deadline: float) -> None:
        """Let what waits go out until `deadline` on the monotonic clock; do not wait for it."""
        self._deadline = deadline
        self._closing.set()
        with contextlib.suppress(queue.Full):  # then it looks at the flag after a delivery
            self._queue.put_nowait(None)

    def join(self) -> None:
        """Wait until everything is out, or the deadline has come."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))

    def _work(self) -> None:
        while True:
            if self._closing.is_set() and self._queue.empty():
                return
            alert = self._queue.get()
            if alert is None:
                continue
            try:
                self._deliver(alert)
            except Exception as error:  # a sink's own fault must not end the others' alerts
                self._failed(f"fails with {type(error).__name__}", alert)

    def _deliver(self, alert: Alert) -> None:
        attempt = 0
        while True:
            try:
                self._sink.deliver(alert, max(0.1, self._deadline - time.monotonic()))
            except DeliveryError as error:
                if not error.again or attempt >= self._sink.retries:
                    self._failed(str(error), alert)
                    return
                wait = self._back_off(attempt) if error.wait is None else error.wait
                if not self._rest(wait, asked=error.wait is not None):
                    self._failed(str(error), alert)
                    return
                attempt += 1
            else:
                self._failing = False
                return

    def _rest(self, seconds: float, *, asked: bool) -> bool:
        """Sleep before the next try; False when the end leaves no time for one.

        A wait that the other side `asked` for is kept to. Any other is cut short by the end.
        """
        until = time.monotonic() + seconds
        if not self._closing.is_set() and not (self._closing.wait(seconds) and asked):
            return True
        if until >= self._deadline:
            return False
        time.sleep(max(0.0, until - time.monotonic()))
        return True

    def _failed(self, reason: str, alert: Alert) -> None:
        self._lost(alert)
        if not self._failing:
            self._failing = True
            self._warn(f"alerts: the {self._sink.name} {reason}; {alert.kind} was not told")
