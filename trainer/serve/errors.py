"""Errors in OpenAI's format: a status, and an object with the message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from shared.errors import RunError, UserError
from shared.text import many_lines
from trainer.serve.engine import QueueFullError

INVALID = "invalid_request_error"
SERVER = "server_error"
RETRY_AFTER = 1  # seconds, for a client that meets a full queue
MAX_MESSAGE = 500  # characters; a message may quote the request


class ApiError(Exception):
    """An error response."""

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
        """The response."""
        return JSONResponse(self.body, self.status, headers=self.headers)


def as_api_error(error: Exception) -> ApiError | None:
    """The response to an error of an engine or a template; None for an unexpected error."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFullError):
        return ApiError(
            429,
            "Too many requests are waiting; try again in a moment.",
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
