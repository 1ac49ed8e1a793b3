"""Errors as OpenAI's clients know them: a status, and an object that says what was wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from shared.errors import RunError, UserError
from shared.text import many_lines
from trainer.serve.engine import QueueFullError

INVALID = "invalid_request_error"
SERVER = "server_error"
RETRY_AFTER = 1  # seconds, for a client that finds the queue full
MAX_MESSAGE = 500  # characters: a message may quote what the client sent


class ApiError(Exception):
    """What an endpoint answers in place of a result."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, Any] = {
            "error": {
                "message": many_lines(message)[:MAX_MESSAGE],
                "type": kind,
                "param": param,
                "code": code,
            }
        }

    def response(self) -> JSONResponse:
        """The answer itself."""
        return JSONResponse(self.body, self.status, headers=self.headers)


def as_api_error(error: Exception) -> ApiError | None:
    """The answer to an error of an engine or a template; None for one that nobody foresaw."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        return ApiError(
            429,
            "Too many requests wait already; try again in a moment.",
            kind="rate_limit_error",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(RETRY_AFTER)},
        )
    if isinstance(error, TimeoutError):
        return ApiError(503, "The answer took too long.", kind=SERVER, code="timeout")
    if isinstance(error, RunError):
        return ApiError(500, str(error), kind=SERVER)
    if isinstance(error, UserError):
        return ApiError(400, str(error))
    return None
