"""The connection to the Hub: huggingface_hub's HTTP client, taught to wait and to stop.

By itself it waits for an answer without end and sleeps where nobody can wake it. During an upload
every request of the thread goes through here: it has time limits, is sent again after a dropped
network, and ends at once when the upload is cancelled. Other requests pass as they are.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2
from huggingface_hub import get_session, set_client_factory
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils import logging as hub_logging

from shared.hub.settings import CANCELLED, UploadCancelledError

CONNECT_TIMEOUT, SEND_TIMEOUT, ANSWER_TIMEOUT = 15.0, 60.0, 180.0  # seconds
LONGEST_WAIT = 300.0  # seconds that the Hub may ask us to wait
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_PASSING = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
_installing = threading.Lock()


class NetworkDroppedError(Exception):
    """The Hub could not be reached, or the connection broke; `__cause__` says how."""


class HubBusyError(Exception):
    """The Hub answered that it cannot now. `after` is how long it asks to wait, in seconds."""

    def __init__(self, status: int, message: str, after: float) -> None:
        super().__init__(message)
        self.status = status
        self.after = after


@dataclass(frozen=True)
class Patience:
    """How an upload's requests are made. `waited` is told why and for how long it waits."""

    waits: tuple[float, ...]
    cancel: threading.Event
    waited: Callable[[str, float], None]

    def check(self) -> None:
        """Raise UploadCancelledError when a person has stopped it."""
        if self.cancel.is_set():
            raise UploadCancelledError(CANCELLED)

    def wait(self, seconds: float, why: str) -> None:
        """Sleep, unless it is cancelled."""
        self.waited(why, seconds)
        if self.cancel.wait(seconds):
            raise UploadCancelledError(CANCELLED)


_patience: ContextVar[Patience | None] = ContextVar("patience", default=None)


@contextlib.contextmanager
def patient(patience: Patience) -> Iterator[None]:
    """Make the requests of this thread as `patience` says."""
    install()
    token = _patience.set(patience)
    try:
        yield
    finally:
        _patience.reset(token)


@contextlib.contextmanager
def once() -> Iterator[None]:
    """No second try: somebody who is offline is told at once."""
    current = _patience.get()
    token = _patience.set(current and Patience((), current.cancel, current.waited))
    try:
        yield
    finally:
        _patience.reset(token)


def install() -> None:
    """Let huggingface_hub use our client, and keep its own words off the screen."""
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
        # Its log lines hold signed addresses, its bars would be drawn over a screen.
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
        # A commit that was made although its answer got lost must not be made twice.
        waits = iter(() if "/commit/" in str(url) else patience.waits)
        while True:
            patience.check()
            if start is not None:
                data.seek(start)
            try:
                response = super().request(method, url, **kwargs)
            except _PASSING as error:
                problem: NetworkDroppedError | HubBusyError = NetworkDroppedError(str(error))
                problem.__cause__ = error
                why, after = "the connection dropped", 0.0
            else:
                if response.status_code not in _BUSY:
                    return response
                after = _asked_to_wait(response)
                problem = HubBusyError(response.status_code, _message(response), after)
                why = f"the Hub answers HTTP {response.status_code}"
            wait = next(waits, None)
            if wait is None or after > LONGEST_WAIT:
                raise problem
            patience.wait(max(wait, after), why)


def _asked_to_wait(response: httpx2.Response) -> float:
    """Seconds after which the Hub wants to be asked again; 0 when it does not say."""
    told = response.headers.get("retry-after", "").strip()
    if told.isdecimal():
        return float(told[:9])
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
