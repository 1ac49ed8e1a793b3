"""Running the application: limits on connections, and a shutdown that finishes the answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import h11
import orjson
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from shared.errors import RunError
from shared.text import one_line
from trainer.serve.access import MAX_HEADERS, headers_too_large
from trainer.serve.errors import SERVER, ApiError
from trainer.serve.limits import Limits
from trainer.serve.streaming import Deadlines

SPARE_FILES = 256  # descriptors kept for accepting, the model and the log
BACKLOG = 128
GRACE = 30.0  # seconds for running answers to end


def bind(host: str, port: int) -> socket.socket:
    """A listening socket for the server. Port 0 takes a free port.

    Raises RunError when the address is not available.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        reason = one_line(getattr(error, "strerror", None) or "it cannot be a host name", 100)
        raise RunError(
            f"--host {one_line(host, 100)} is not an address of this machine: {reason}."
        ) from None
    sock = socket.socket(family, kind, number)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        # Listen now, so that no other process can take the port while the model loads.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise RunError(
            f"Cannot listen on {host} port {port}: {error.strerror}; choose another with --port."
        ) from None
    return sock


def address_of(sock: socket.socket) -> str:
    """The URL of the server."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Starlette, ready: Callable[[], None], grace: float = GRACE) -> Server:
    """A server for `app`: `await make_server(…).serve(sockets=[bind(…)])` answers until a signal.

    `ready` is called when requests are accepted. `grace` is how many seconds running answers get to
    end after a signal.
    """
    # The client is told about its own mistakes; only failures of the server are logged.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    limits: Limits = app.state.limits
    most = _most_connections(limits.connections)
    protocol = type("Guarded", (GuardedProtocol,), {"idle": {}, "most": most, "limits": limits})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=limits.keep_alive,
        timeout_graceful_shutdown=int(grace + limits.stall_time),
        h11_max_incomplete_event_size=MAX_HEADERS,
    )
    return Server(config, app.state.deadlines, ready, grace)


class Server(uvicorn.Server):
    """uvicorn's server; on a signal it lets running answers end, then returns."""

    def __init__(
        self,
        config: uvicorn.Config,
        deadlines: Deadlines,
        ready: Callable[[], None],
        grace: float,
    ) -> None:
        super().__init__(config)
        self._deadlines = deadlines
        self._ready = ready
        self._grace = grace

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more requests; running answers get `grace` seconds."""
        timer = asyncio.get_running_loop().call_later(self._grace, self._deadlines.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal stops the server after its answers, the second at once."""
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals without raising them again at the end, as uvicorn would."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _most_connections(wanted: int) -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(16, min(wanted, soft - SPARE_FILES))


class GuardedProtocol(H11Protocol):
    """uvicorn's protocol, with limits for connections that do nothing.

    Headers must arrive and answers must be read in time. At the connection limit the one that has
    been idle longest is closed; if all are at work, the new one gets a 503.
    """

    idle: dict[GuardedProtocol, None]  # oldest first
    most: int  # connections
    limits: Limits
    _header_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            if not self.idle:
                self._refuse()
                return
            next(iter(self.idle)).abort()
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        if self in self.idle and self._header_timer is None:
            self._wait_for_headers()
        super().data_received(data)

    def handle_events(self) -> None:
        """Handle the parsed events."""
        super().handle_events()
        if self._at_work:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """An answer is complete; the client may send another request."""
        super().on_response_complete()
        if not self._at_work and not self.transport.is_closing():
            self.idle[self] = None

    def pause_writing(self) -> None:
        """The client reads more slowly than its answer is written."""
        super().pause_writing()
        if self._stall_timer is None:
            self._stall_timer = self.loop.call_later(self.limits.stall_time, self.abort)

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """The bytes are not HTTP, or have headers over the limit."""
        # uvicorn calls this while it handles h11's error, which knows which of the two it is.
        hint = getattr(sys.exception(), "error_status_hint", 400)
        if self._at_work or self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.abort()
            return
        self._answer(headers_too_large() if hint == 431 else ApiError(400, msg))

    def abort(self) -> None:
        """Close at once, without waiting for the client to read."""
        self._stop_waiting()
        self.transport.abort()

    @property
    def _at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_headers(self) -> None:
        self.idle[self] = None
        self._header_timer = self.loop.call_later(self.limits.header_time, self.abort)

    def _stop_waiting(self) -> None:
        self.idle.pop(self, None)
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _refuse(self) -> None:
        message = "Too many connections; try again in a moment."
        self._answer(ApiError(503, message, kind=SERVER, headers={"Retry-After": "1"}))

    def _answer(self, error: ApiError) -> None:
        """Write an error without the application, and close."""
        body = orjson.dumps(error.body)
        headers: dict[str, Any] = {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **error.headers,
            "Connection": "close",
        }
        lines = [f"HTTP/1.1 {error.status} ", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        self.transport.write("\r\n".join(lines).encode() + body)
        self.transport.close()
