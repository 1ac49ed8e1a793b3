"""Sending answers: whole or as server-sent events. Both end when the client disconnects."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trainer.serve.answers import Ask, Part, answers
from trainer.serve.body import until_gone
from trainer.serve.errors import as_api_error
from trainer.serve.request_log import RequestRecord
from trainer.serve.served import Served
from trainer.serve.text_stream import PlacedToken

T = TypeVar("T")


@dataclass
class Whole:
    """An answer being assembled."""

    index: int
    text: str = ""
    tokens: list[PlacedToken] = field(default_factory=list)
    reason: str | None = None
    vector: tuple[float, ...] = ()

    def add(self, part: Part) -> None:
        """Append the next piece."""
        self.text += part.piece.text
        self.tokens += part.piece.tokens
        self.reason = part.reason or self.reason
        self.vector = part.vector or self.vector


class Deadlines:
    """Time limits: one for each answer, and one for all answers when the server stops."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: set[asyncio.Timeout] = set()
        self._ended = False

    def end_all(self) -> None:
        """End all answers now."""
        self._ended = True
        for timeout in self._running:
            if not timeout.expired():
                timeout.reschedule(0)

    async def kept(
        self, parts: AsyncGenerator[Part, None], record: RequestRecord
    ) -> AsyncGenerator[Part, None]:
        """The parts, counted in the record. Raises TimeoutError when the time is up."""
        deadline = asyncio.get_running_loop().time() + self._seconds
        async with contextlib.aclosing(parts):
            while True:
                try:
                    async with asyncio.timeout_at(0 if self._ended else deadline) as timeout:
                        self._running.add(timeout)
                        part = await anext(parts)
                except StopAsyncIteration:
                    return
                finally:
                    self._running.discard(timeout)
                record.count(part.new_tokens)
                yield part


class Wire(Protocol):
    """An endpoint's format of choices."""

    def whole(self, answer: Whole) -> dict[str, Any]:
        """The choice of a complete answer."""

    def opening(self, index: int) -> Iterator[dict[str, Any]]:
        """Choices before the first piece."""

    def chunks(self, part: Part) -> Iterator[dict[str, Any]]:
        """Choices of one piece."""


class Envelope:
    """The fields around the choices, the same in all chunks of a stream."""

    def __init__(self, prefix: str, kind: str, served: Served, include_usage: bool) -> None:
        self.id = f"{prefix}-{uuid.uuid4().hex}"
        self._kind = kind
        self._include_usage = include_usage
        self._facts = {
            "created": int(time.time()),
            "model": served.name,
            "system_fingerprint": served.fingerprint,
        }

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        """A complete response."""
        return {"id": self.id, "object": self._kind} | self._facts | {
            "choices": choices,
            "usage": usage,
        }  # fmt: skip

    def chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        """An event of a stream."""
        return self._event([choice]) | ({"usage": None} if self._include_usage else {})

    def usage(self, usage: dict[str, int]) -> Iterator[dict[str, Any]]:
        """The last event, with the usage, if the client asked for it."""
        if self._include_usage:
            yield self._event([]) | {"usage": usage}

    def _event(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "text_completion" if self._kind == "text_completion" else f"{self._kind}.chunk"
        return {"id": self.id, "object": kind} | self._facts | {"choices": choices}


async def respond(
    request: Request,
    asks: Sequence[Ask],
    prompt_tokens: int,
    envelope: Envelope,
    wire: Wire,
    *,
    stream: bool,
) -> Response:
    """The response to a request whose jobs are known.

    An error before the first piece becomes an HTTP status, for a stream too. Raises
    ClientDisconnect if the client disconnects first.
    """
    record: RequestRecord = request.state.record
    if not stream:
        wholes = await collect(request, asks, prompt_tokens, envelope.id)

        def written() -> Response:
            choices = [wire.whole(answer) for answer in wholes]
            return json_response(envelope.whole(choices, record.usage))

        # A million log-probabilities take a second to serialize; do not block other requests.
        long = sum(len(answer.tokens) for answer in wholes) > 1000
        return await asyncio.to_thread(written) if long else written()
    parts = _begun(request, asks, prompt_tokens, envelope.id)
    try:
        first = await _unless_gone(request.receive, anext(parts))
    except BaseException:
        await parts.aclose()
        raise
    return EventStream(
        _events(first, parts, count=len(asks), envelope=envelope, wire=wire, record=record)
    )


async def collect(
    request: Request, asks: Sequence[Ask], prompt_tokens: int, name: str
) -> list[Whole]:
    """The complete answers of a request; `name` is its id in the log.

    Raises ClientDisconnect if the client disconnects first.
    """
    parts = _begun(request, asks, prompt_tokens, name)
    return await _unless_gone(request.receive, _collected(parts, len(asks)))


def _begun(
    request: Request, asks: Sequence[Ask], prompt_tokens: int, name: str
) -> AsyncGenerator[Part, None]:
    """The parts of the answers, within the server's time, and the request on record."""
    record: RequestRecord = request.state.record
    record.prompt_tokens = prompt_tokens
    record.id = name
    deadlines: Deadlines = request.app.state.deadlines
    return deadlines.kept(answers(request.app.state.served.engine, asks), record)


def json_response(content: dict[str, Any], status: int = 200) -> Response:
    """JSON by orjson, which is several times faster for long lists of log-probabilities."""
    return Response(orjson.dumps(content), status, media_type="application/json")


class EventStream(Response):
    """Server-sent events. They and their source end when the client disconnects."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events. Raises ClientDisconnect when the client disconnects."""
        await _unless_gone(receive, self._sent(send))

    async def _sent(self, send: Send) -> None:
        async with contextlib.aclosing(self._events):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for event in self._events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _events(
    first: Part,
    parts: AsyncGenerator[Part, None],
    *,
    count: int,
    envelope: Envelope,
    wire: Wire,
    record: RequestRecord,
) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(parts):
        for index in range(count):
            for choice in wire.opening(index):
                yield _event(envelope.chunk(choice))
        for choice in wire.chunks(first):
            yield _event(envelope.chunk(choice))
        try:
            async for part in parts:
                for choice in wire.chunks(part):
                    yield _event(envelope.chunk(choice))
        except Exception as error:
            told = as_api_error(error)
            if told is None:
                raise
            record.problem = str(told)
            yield _event(told.body)
            return
    for last in envelope.usage(record.usage):
        yield _event(last)
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(content) + b"\n\n"


async def _collected(parts: AsyncGenerator[Part, None], count: int) -> list[Whole]:
    wholes = [Whole(index) for index in range(count)]
    async with contextlib.aclosing(parts):
        async for part in parts:
            wholes[part.index].add(part)
    return wholes


async def _unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled with ClientDisconnect if the client disconnects."""
    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(until_gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)
