"""huggingface_hub's HTTP client with time limits, retries and cancel.

By default it waits for an answer without a limit and sleeps where nothing can interrupt it. During
a transfer every request of the thread goes through here: it has time limits, is retried after a
dropped connection, waits as long as `Retry-After` asks, and ends immediately when the transfer is
cancelled. Other requests are not changed.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
from huggingface_hub import get_session, set_client_factory
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils import logging as hub_logging

from shared.hub.settings import HubCancelledError, upload_cancelled

CONNECT_TIMEOUT, SEND_TIMEOUT, ANSWER_TIMEOUT = 15.0, 60.0, 180.0  # seconds
LONGEST_WAIT = 300.0  # seconds that the Hub may ask us to wait
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_PASSING = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
_installing = threading.Lock()


class NetworkDroppedError(Exception):
    """The Hub could not be reached, or the connection broke; `__cause__` says how."""


class HubBusyError(Exception):
    """The Hub is busy or has an error. `after` is how long it asks to wait, in seconds."""

    def __init__(self, status: int, message: str, after: float) -> None:
        super().__init__(message)
        self.status = status
        self.after = after


@dataclass(frozen=True)
class Patience:
    """How the requests of a transfer are retried.

    `waits` are the seconds before each retry. With `offline_fails` a server that cannot be reached
    is an error at once, with `busy_fails` one that does not say how long it is busy. `waited` is
    called with the reason and the seconds of each wait, `cancelled` makes the error for a transfer
    that a person stopped.
    """

    waits: tuple[float, ...]
    cancel: threading.Event
    waited: Callable[[str, float], None]
    offline_fails: bool = False
    busy_fails: bool = False
    cancelled: Callable[[], HubCancelledError] = upload_cancelled

    def check(self) -> None:
        """Raise HubCancelledError if the transfer was cancelled."""
        if self.cancel.is_set():
            raise self.cancelled()

    def wait(self, seconds: float, why: str) -> None:
        """Sleep. Raises HubCancelledError as soon as the transfer is cancelled."""
        self.waited(why, seconds)
        if self.cancel.wait(seconds):
            raise self.cancelled()


_patience: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextlib.contextmanager
def patient(patience: Patience) -> Iterator[None]:
    """Apply `patience` to the requests of this thread."""
    install()
    token = _patience.set(patience)
    try:
        yield
    finally:
        _patience.reset(token)


@contextlib.contextmanager
def once(*, busy: bool = True) -> Iterator[None]:
    """Do not retry a server that cannot be reached, nor with `busy` one that fails; one that says
    when to come again gets its time."""
    current = _patience.get()
    token = _patience.set(current and replace(current, offline_fails=True, busy_fails=busy))
    try:
        yield
    finally:
        _patience.reset(token)


def install() -> None:
    """Make huggingface_hub use this client, and silence its log and progress bars."""
    with _installing:
        if isinstance(get_session(), _Client):
            return
        hooks = get_session().event_hooks
        limits = httpx2.Timeout(
            connect=CONNECT_TIMEOUT, write=SEND_TIMEOUT, read=ANSWER_TIMEOUT, pool=None
        )
        set_client_factory(
            lambda: _Client(event_hooks=hooks, follow_redirects=True, timeout=limits)
        )
        # Its log lines contain signed addresses; its bars would overwrite a screen.
        hub_logging.set_verbosity(hub_logging.CRITICAL)
        disable_progress_bars()
        warnings.filterwarnings("ignore", module=r"huggingface_hub\.")


class _Client(httpx2.Client):
    def request(self, method: str, url: Any, **kwargs: Any) -> httpx2.Response:
        patience = _patience.get()
        if patience is None:
            return super().request(method, url, **kwargs)
        data: Any = kwargs.get("data")
        start = data.tell() if hasattr(data, "tell") else None
        ask = super().request

        def attempt() -> httpx2.Response:
            if start is not None:
                data.seek(start)
            return ask(method, url, **kwargs)

        # A commit whose answer was lost must not be made twice: `Hub._commit` retries it.
        return _answered(attempt, patience, () if "/commit/" in str(url) else patience.waits)

    @contextlib.contextmanager
    def stream(self, method: str, url: Any, **kwargs: Any) -> Iterator[httpx2.Response]:
        patience = _patience.get()
        open_stream = super().stream
        if patience is None:
            with open_stream(method, url, **kwargs) as response:
                yield response
            return
        with contextlib.ExitStack() as opened:

            def attempt() -> httpx2.Response:
                opened.close()
                return opened.enter_context(open_stream(method, url, **kwargs))

            yield _answered(attempt, patience, patience.waits)


def _answered(
    attempt: Callable[[], httpx2.Response], patience: Patience, waits: Sequence[float]
) -> httpx2.Response:
    """The first answer of a Hub that is neither unreachable nor busy."""
    left = iter(waits)
    while True:
        patience.check()
        try:
            response = attempt()
        except _PASSING as error:
            problem: NetworkDroppedError | HubBusyError = NetworkDroppedError(str(error))
            problem.__cause__ = error
            why, after = "the connection dropped", 0.0
        else:
            if response.status_code not in _BUSY:
                return response
            with contextlib.suppress(httpx2.HTTPError):
                response.read()
            after = asked_to_wait(response)
            problem = HubBusyError(response.status_code, _message(response), after)
            why = f"the Hub answers HTTP {response.status_code}"
        wait = next(left, None)
        if wait is None or after > LONGEST_WAIT:
            raise problem
        busy = isinstance(problem, HubBusyError)
        if not after and (patience.busy_fails if busy else patience.offline_fails):
            raise problem
        patience.wait(max(wait, after), why)


def asked_to_wait(response: httpx2.Response) -> float:
    """Seconds the Hub asks to wait before the next request; 0 if it does not say.

    `Retry-After` holds seconds or a date (RFC 9110, section 10.2.3).
    """
    told = response.headers.get("retry-after", "").strip()
    if told.isdecimal():
        return float(told[:9])
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    limit = response.headers.get("ratelimit", "")  # "api";r=0;t=55
    rest = limit.rpartition("t=")[2].strip() if "r=0" in limit else ""
    return float(rest[:9]) + 1 if rest.isdecimal() else 0.0


def _message(response: httpx2.Response) -> str:
    told = response.headers.get("x-error-message")
    with contextlib.suppress(ValueError, httpx2.StreamError):
        value = response.json()
        if not told and isinstance(value, dict) and isinstance(value.get("error"), str):
            told = value["error"]
    return told or ""
