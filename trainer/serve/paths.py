"""Paths as clients write them: with slashes too many, or without /v1."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

#: What clients of other APIs ask for, and the endpoint here that does the same.
ELSEWHERE = {
    "/api/chat": "/v1/chat/completions",
    "/api/generate": "/v1/completions",
    "/api/tags": "/v1/models",
    "/responses": "/v1/chat/completions",
    "/completion": "/v1/completions",
    "/messages": "/v1/chat/completions",
}

_LEADING = re.compile(r"^/+(v1(?:/+|$))?")


class PlainPaths:
    """Middleware that removes slashes too many, as in `/v1/models/` or `//v1//completions`.

    They come from base URLs with a slash at the end. It has to be the outermost one, since others
    decide by the path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            scope["path"] = plain_path(scope["path"])
        await self._app(scope, receive, send)


def plain_path(path: str) -> str:
    """The path without doubled slashes before the endpoint's name, and without a last one."""
    begun = _LEADING.sub(lambda found: "/v1/" if found[1] else "/", path)
    return begun.rstrip("/") or "/"


def likely_endpoint(path: str, endpoints: Iterable[str]) -> str | None:
    """The endpoint that a client meant by a path where there is none: None if it is unclear."""
    by_end = {endpoint.removeprefix("/v1"): endpoint for endpoint in endpoints if len(endpoint) > 1}
    for end, endpoint in sorted((by_end | ELSEWHERE).items(), key=lambda pair: -len(pair[0])):
        if path.lower().endswith(end):
            return endpoint
    if re.match(r"^(/v1)*/models/[^/]", path):  # one model, by its name
        return "/v1/models/" + path.partition("/models/")[2]
    return None
