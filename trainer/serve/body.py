"""Reading a request's body: never more than allowed, never longer than patience lasts."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.types import Receive

from shared.text import format_bytes
from trainer.serve.errors import ApiError

MAX_BODY = 4 << 20  # bytes
LINGER = 16 << 20  # bytes read and thrown away, so that the client comes to read the answer
PATIENCE = 30.0  # seconds for the whole body


async def read_body(request: Request) -> bytes:
    """The body. Raises ApiError: 413 when it is too large, 408 when it takes too long."""
    chunks: list[bytes] = []
    size = 0
    close = {"Connection": "close"}
    try:
        async with asyncio.timeout(PATIENCE):
            async for chunk in request.stream():
                size += len(chunk)
                if size <= MAX_BODY:
                    chunks.append(chunk)
                elif size > MAX_BODY + LINGER:
                    break
    except TimeoutError:
        raise ApiError(408, "The body did not come in time.", headers=close) from None
    if size > MAX_BODY:
        raise ApiError(
            413,
            f"The body is larger than {format_bytes(MAX_BODY)}.",
            code="request_too_large",
            headers=close,
        )
    return b"".join(chunks)


async def until_gone(receive: Receive) -> None:
    """Wait until the client has left. Only once the body is read."""
    while (await receive())["type"] != "http.disconnect":
        pass
