"""Requests and their answers over two pipes: asked without waiting, answered in their order.

A link's latency is paid once for many requests. What a person waits for is asked like anything
else: its answer comes after those that are on their way, of which `window` allows only few.
"""

from __future__ import annotations

import os
import select
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from shared.remote.protocol import Head, ProtocolError, encode_frame, read_frame

ANSWER = 30.0  # seconds without a byte of an awaited answer, after which a link counts as dead
_READ = 1 << 18  # bytes
_LOOK = 0.5  # seconds between two looks at the clock while waiting

Answer = tuple[dict[str, Any], bytes]


class Pending:
    """An answer that is on its way."""

    def __init__(self, timeout: float) -> None:
        self.asked_at = self.came_at = time.monotonic()
        self.timeout = timeout
        self.done = False
        #: Bytes of the answer, as it was sent.
        self.size = 0
        self.answer: Answer = ({}, b"")
        self.error: Exception | None = None

    @property
    def latency(self) -> float:
        """Seconds from the question to the answer, once it is there."""
        return self.came_at - self.asked_at


class Exchange:
    """Asks over `sink`, and reads answers from `source`, two file descriptors, in a thread.

    Any thread may ask and wait. `broken(error)` is called once, when no more answers can come.
    """

    def __init__(
        self, source: int, sink: int, rest: bytes, broken: Callable[[Exception], object]
    ) -> None:
        """`rest` was read from `source` before."""
        self._source, self._sink = source, sink
        self._rest = bytearray(rest)
        self._taken = 0  # bytes of the frame that is being read
        self._broken = broken
        self._heard_at = time.monotonic()
        #: Bytes received so far.
        self.received = len(rest)
        self._asking = threading.Lock()
        self._changed = threading.Condition()
        self._pending: deque[Pending] = deque()
        self._error: Exception | None = None
        self._closed = False
        self._ended, self._end = os.pipe()  # wakes the thread where others keep `source` open
        self._readable = select.poll()
        for fd in (self._source, self._ended):
            self._readable.register(fd, select.POLLIN)
        self._thread = threading.Thread(target=self._listen, name="answers", daemon=True)
        self._thread.start()

    def ask(self, head: Head, timeout: float = ANSWER) -> Pending:
        """Send a request; its answer comes later. An error is in what is returned."""
        pending = Pending(timeout)
        data = encode_frame(head)
        with self._asking:
            with self._changed:
                if self._error is not None:
                    pending.error, pending.done = self._error, True
                    return pending
                self._pending.append(pending)
            try:
                write_all(self._sink, data, time.monotonic() + timeout)
            except (OSError, ValueError) as error:
                self.fail(error)
        return pending

    def wait(self, pending: Pending, until: Callable[[], bool] = lambda: False) -> None:
        """Wait for an answer, or `until` that holds after a `nudge`; a dead link ends it too."""
        while True:
            with self._changed:
                if pending.done or until():
                    return
                self._changed.wait(_LOOK)
                now = time.monotonic()
                silent = now - max(pending.asked_at, self._heard_at) > pending.timeout
            if silent and not pending.done:
                self.fail(TimeoutError())

    def nudge(self) -> None:
        """Let whoever waits look at its `until`."""
        with self._changed:
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """End it: every answer that is awaited becomes this error."""
        with self._changed:
            if self._error is not None:
                return
            self._error = error
            for pending in self._pending:
                pending.error, pending.done = error, True
            self._pending.clear()
            self._changed.notify_all()
        self._broken(error)

    def close(self) -> None:
        """End it, and the thread. Whoever closes the descriptors does so afterwards."""
        self.fail(EOFError())
        with self._asking:
            if self._closed:
                return
            self._closed = True
        os.write(self._end, b"x")
        self._thread.join()
        for fd in (self._ended, self._end):
            os.close(fd)

    def _listen(self) -> None:
        try:
            while True:
                self._taken = 0
                head, body = read_frame(self._read)
                with self._changed:
                    if not self._pending:
                        raise ProtocolError("it answers what was not asked")
                    pending = self._pending.popleft()
                    pending.answer, pending.came_at = (head, body), time.monotonic()
                    pending.size, pending.done = self._taken, True
                    self._changed.notify_all()
        except Exception as error:  # whatever it is, nobody may wait for ever
            self.fail(error)

    def _read(self, size: int) -> bytes:
        while len(self._rest) < size:
            ready = {fd for fd, _ in self._readable.poll()}
            data = b"" if self._ended in ready else os.read(self._source, _READ)
            if not data:
                raise EOFError
            self._rest += data
            self.received += len(data)
            self._heard_at = time.monotonic()
        self._taken += size
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data


def write_all(sink: int, data: bytes, deadline: float) -> None:
    """Write to a pipe until a moment of the monotonic clock. Raises TimeoutError and OSError."""
    view = memoryview(data)
    with selectors.DefaultSelector() as ready:
        ready.register(sink, selectors.EVENT_WRITE)
        while view:
            if not ready.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            view = view[os.write(sink, view[:4096]) :]
