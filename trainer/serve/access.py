"""Access control: the API key, pages of other sites in a browser, and headers that mislead."""

from __future__ import annotations

import hmac
import os
from collections.abc import Collection
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import UserError
from shared.text import format_bytes, one_line
from trainer.serve.errors import ApiError

VARIABLE = "TRAINER_API_KEY"
GUARDED = ("/v1/", "/metrics", "/tokenize", "/detokenize")
MAX_KEY = 4096  # bytes
MAX_HEADERS = 32 << 10  # bytes, the request line included


def read_key(file: Path | None) -> str | None:
    """The key from a file, or else from the environment; None if there is none.

    Raises UserError for a key that cannot be sent in a header. No message contains the key.
    """
    if file is not None:
        try:
            with file.open(encoding="utf-8") as stream:
                key = stream.read(MAX_KEY).strip()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not a text file"
            raise UserError(f"--api-key-file {one_line(file)} cannot be read: {reason}.") from None
        where = one_line(file)
    elif VARIABLE in os.environ:
        key, where = os.environ[VARIABLE].strip(), VARIABLE
    else:
        return None
    if len(key.split()) != 1 or not (key.isascii() and key.isprintable()):
        raise UserError(f"{where} does not contain a key: a key is one word of ASCII characters.")
    return key


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is reachable from this machine only."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Middleware that refuses requests without permission.

    A server that is `local` (it listens on the loopback interface) and has no key answers only
    requests for a loopback name, so that no site can point its own name here (DNS rebinding).
    """

    def __init__(
        self, app: ASGIApp, key: str | None, origins: Collection[str], *, local: bool
    ) -> None:
        self._app = app
        self._key = None if key is None else key.encode()
        self._origins = frozenset(origins)
        self._local = local and key is None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refusal = _misleading(scope, headers) or self._foreign(scope, headers)
            if refusal is None and scope["path"].startswith(GUARDED):
                refusal = self._keyless(headers)
            if refusal is not None:
                return await refusal.response()(scope, receive, send)
        return await self._app(scope, receive, send)

    def _foreign(self, scope: Scope, headers: Headers) -> ApiError | None:
        host = headers.get("host", "")
        if self._local and host and not is_loopback(_hostname(host)):
            return ApiError(
                403,
                f"'{one_line(host, 60)}' is not a name of this server; start it with a key to "
                "use other names.",
                code="unknown_host",
            )
        origin = headers.get("origin")
        if origin is None or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        if _netloc(origin) == host.lower() or self._origins & {"*", origin}:
            return None
        return ApiError(
            403,
            f"Pages of '{one_line(origin, 60)}' may not use this server; see --cors-origin.",
            code="foreign_origin",
        )

    def _keyless(self, headers: Headers) -> ApiError | None:
        if self._key is None:
            return None
        kind, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
        if hmac.compare_digest(given.encode("utf-8", "replace"), self._key):
            return None
        message = (
            "Incorrect API key provided."
            if given
            else "You didn't provide an API key: send it as 'Authorization: Bearer KEY'."
        )
        return ApiError(
            401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
        )


def _misleading(scope: Scope, headers: Headers) -> ApiError | None:
    """The refusal of a request whose end a proxy may see elsewhere, or whose headers are too large.

    Both close the connection, since what follows on it may not be a request (RFC 9112, 6.3).
    """
    close = {"Connection": "close"}
    if "content-length" in headers and "transfer-encoding" in headers:
        return ApiError(
            400,
            "A request has either Content-Length or Transfer-Encoding, not both.",
            headers=close,
        )
    size = len(scope["method"]) + len(scope["raw_path"]) + len(scope["query_string"])
    size += sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    return headers_too_large() if size > MAX_HEADERS else None


def headers_too_large() -> ApiError:
    """The refusal of headers over the limit."""
    return ApiError(
        431,
        f"The request line and headers are larger than {format_bytes(MAX_HEADERS)}.",
        code="request_too_large",
        headers={"Connection": "close"},
    )


def _netloc(origin: str) -> str | None:
    """The host and port of an Origin header; None if it has none, as in `null`."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _hostname(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
