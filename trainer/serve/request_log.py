"""One log line per request, and the server's metrics.

A line has the client, the path, the status and the duration. It never has the text of a prompt or
an answer, and never a key.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.text import format_time, one_line
from trainer.serve.log_lines import LogLines
from trainer.serve.metrics import Metrics

GONE = 499  # nginx's status for a client that disconnected before the answer was complete
MAX_PATH = 80  # characters


@dataclass
class RequestRecord:
    """One request. Times are in seconds of `time.monotonic`."""

    started: float = field(default_factory=time.monotonic)
    id: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0
    first_token: float | None = None
    problem: str = ""  # the error that ended a stream

    @property
    def usage(self) -> dict[str, int]:
        """The token counts for the client."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.new_tokens,
            "total_tokens": self.prompt_tokens + self.new_tokens,
        }

    def count(self, new_tokens: int) -> None:
        """Count tokens that were generated."""
        self.new_tokens += new_tokens
        if new_tokens and self.first_token is None:
            self.first_token = time.monotonic()


class RequestLog:
    """The outermost middleware: makes the record, writes the log line, counts."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, endpoints: frozenset[str], lines: LogLines
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._endpoints = endpoints
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        record = RequestRecord()
        scope.setdefault("state", {})["record"] = record
        status, whole = 500, False

        async def watched(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)
            if message["type"] == "http.response.body":
                whole = not message.get("more_body", False)

        try:
            await self._app(scope, receive, watched)
            status = status if whole else GONE
        except (ClientDisconnect, asyncio.CancelledError):
            # The task does nothing else, so nobody else waits for its cancellation.
            status = GONE
        finally:
            self._tell(scope, status, record)
        return None

    def _tell(self, scope: Scope, status: int, record: RequestRecord) -> None:
        seconds = time.monotonic() - record.started
        path = scope["path"]
        endpoint = path if path in self._endpoints else "other"
        wait = None if record.first_token is None else record.first_token - record.started
        self._metrics.count(endpoint, status, seconds, wait)
        if path in ("/health", "/metrics") and status < 400:
            return  # polled by machines every few seconds
        facts = [
            format_time(time.time(), "%Y-%m-%dT%H:%M:%S%z"),
            one_line(scope["method"], 10),
            one_line(path, MAX_PATH).replace(" ", "%20"),
            str(status),
            f"seconds={seconds:.3f}",
        ]
        if record.prompt_tokens:
            facts += [f"prompt_tokens={record.prompt_tokens}", f"new_tokens={record.new_tokens}"]
        if wait is not None:
            facts.append(f"first_token={wait:.3f}")
        facts.append(f"client={one_line((scope.get('client') or ['-'])[0], 45)}")
        if record.id:
            facts.append(f"id={record.id}")
        if record.problem:
            facts.append(f"problem={one_line(record.problem)!r}")
        self._lines.put(" ".join(facts))
