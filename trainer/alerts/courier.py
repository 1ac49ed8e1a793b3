"""One thread per sink: it waits, retries and gives up without delaying anything else."""

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
    """Delivers alerts to one sink in its own thread, which never keeps a process alive.

    `warn` is called once for a series of failures, until a delivery succeeds again.
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
        self._hurried = False
        self._thread = threading.Thread(target=self._work, name="alert-courier", daemon=True)
        self._thread.start()

    def send(self, alert: Alert) -> bool:
        """Queue an alert; False if the queue is full. Never blocks."""
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            return False
        return True

    def close(self, deadline: float) -> None:
        """Deliver what waits until `deadline` on the monotonic clock. Returns at once."""
        self._deadline = deadline
        self._closing.set()
        with contextlib.suppress(queue.Full):  # then it sees the flag after a delivery
            self._queue.put_nowait(None)

    def join(self) -> None:
        """Wait until everything is delivered or the deadline has passed."""
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
            except Exception as error:  # a bug of one sink must not end all alerts
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
        """Sleep before the next try; False if the deadline leaves no time for one.

        A wait that the other side `asked` for is respected. The first other wait that is going on
        when the process ends is cut short, for one more try.
        """
        until = time.monotonic() + seconds
        if not self._closing.wait(0.0 if self._hurried else seconds):
            return True
        if not (asked or self._hurried):
            self._hurried = True
            return True
        if until >= self._deadline:
            return False
        time.sleep(max(0.0, until - time.monotonic()))
        return True

    def _failed(self, reason: str, alert: Alert) -> None:
        self._lost(alert)
        if not self._failing:
            self._failing = True
            self._warn(f"alerts: the {self._sink.name} {reason}; {alert.kind} was not delivered")
