"""Reading a request's body within limits of size and time."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.types import Receive

from shared.text import format_bytes
from trainer.serve.errors import ApiError
from trainer.serve.limits import Limits

MAX_BODY = 4 << 20  # bytes
LINGER = 16 << 20  # bytes read and discarded, so that the client gets to read the error


async def read_body(request: Request) -> bytes:
    """The body. Raises ApiError: 413 when it is too large, 408 when it takes too long."""
    limits: Limits = request.app.state.limits
    chunks: list[bytes] = []
    size = 0
    close = {"Connection": "close"}
    try:
        async with asyncio.timeout(limits.body_time):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BODY:
                    chunks.append(chunk)
                elif size > MAX_BODY + LINGER:
                    break
    except TimeoutError:
        raise ApiError(408, "The request body did not arrive in time.", headers=close) from None
    if size > MAX_BODY:
        raise ApiError(
            413,
            f"The request body is larger than {format_bytes(MAX_BODY)}.",
            code="request_too_large",
            headers=close,
        )
    return b"".join(chunks)


async def until_gone(receive: Receive) -> None:
    """Wait until the client disconnects. Call it only after the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass
