"""What went wrong with an upload, as one sentence that says what to do."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from shared.errors import RunError, UserError
from shared.hub.client import HubBusyError, NetworkDroppedError
from shared.text import format_duration, one_line

KEPT = "files the Hub already has are not sent again"
_FULL = ("storage", "quota", "payment", "upgrade", "exceed", "too large", "billing")
_NO_ROOM = {402, 413, 507}


@dataclass(frozen=True)
class Asked:
    """The server and the repository of a request.

    `endpoint` is the address without a password. `token` and `password` are here only to be kept
    out of every message.
    """

    endpoint: str
    repo: str = ""
    token_source: str = ""
    token: str = ""
    password: str = ""

    def about(self, repo: str) -> Asked:
        """The same server, another repository."""
        return replace(self, repo=repo)


def split_password(endpoint: str) -> tuple[str, str]:
    """An address such as HF_ENDPOINT without its user name and password, and the password."""
    parts = urlsplit(endpoint)
    _, _, host = parts.netloc.rpartition("@")
    try:
        password = unquote(parts.password or "")
    except ValueError:
        password = ""
    return urlunsplit(parts._replace(netloc=host)), password


def explain(error: BaseException, asked: Asked) -> UserError:
    """The message for `error`, without token or password whatever the server said."""
    return without_secrets(_explain(error, asked), asked)


def without_secrets(found: UserError, asked: Asked) -> UserError:
    """The same error without token and password in its message."""
    text = str(found)
    for secret in (asked.token, asked.password, quote(asked.password, safe="")):
        if secret:
            text = text.replace(secret, "***")
    if text == str(found):
        return found
    told = type(found)(text)
    told.exit_code = found.exit_code
    return told


def _explain(error: BaseException, asked: Asked) -> UserError:
    for one in chain(error):
        if isinstance(one, UserError):
            return one
        if isinstance(one, OfflineModeIsEnabled):
            return UserError("HF_HUB_OFFLINE is set, so nothing can be sent; unset it to upload.")
        if isinstance(one, LocalTokenNotFoundError):
            return not_logged_in()
        if isinstance(one, NetworkDroppedError):
            return _dropped(one, asked)
        if isinstance(one, HubBusyError):
            return _busy(one, asked)
        if isinstance(one, HFValidationError):
            return wrong_name(asked.repo)
        if isinstance(one, HfHubHTTPError):
            return _answered(one, asked)
    for one in chain(error):
        if isinstance(one, OSError):
            place = f"{one_line(one.filename)}: " if one.filename else ""
            return RunError(f"The upload failed: {place}{one.strerror or one_line(one)}.")
    told = one_line(error, 300).removesuffix(".")
    if any(word in told.lower() for word in _FULL):
        return _full(told, asked)
    return RunError(f"The upload to {asked.endpoint} failed: {told}.")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    for _ in range(20):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def not_logged_in() -> UserError:
    """Nobody said who uploads."""
    return UserError(
        "You are not logged in to the Hub: run `hf auth login` once, or set HF_TOKEN, or give "
        "--token-file FILE."
    )


def wrong_name(repo: str) -> UserError:
    """The Hub takes no such name."""
    return UserError(
        f"{one_line(repo, 120)!r} is not a valid repository name; give NAME or OWNER/NAME of at "
        "most 96 letters, digits, '-', '_' and '.', without '--' or '..' and with none of them at "
        "an end."
    )


def _dropped(error: NetworkDroppedError, asked: Asked) -> RunError:
    why = why_unreachable(error)
    return RunError(
        f"The Hub at {asked.endpoint} cannot be reached: {why}, then try again: {KEPT}."
    )


def why_unreachable(error: NetworkDroppedError) -> str:
    """What keeps the Hub from being reached, and what to check."""
    causes = list(chain(error))
    text = str(error).lower()
    if any(isinstance(c, socket.gaierror) for c in causes) or "name or service" in text:
        return "its name cannot be resolved; check the network and HF_ENDPOINT"
    if any(isinstance(c, ssl.SSLError) for c in causes) or "certificate" in text:
        told = one_line(error, 120)
        return f"its certificate is not accepted ({told}); check the clock and proxy"
    if any(isinstance(c, ConnectionRefusedError) for c in causes) or "refused" in text:
        return "the connection is refused; check HF_ENDPOINT and the proxy (HTTPS_PROXY)"
    if "timeout" in type(error.__cause__).__name__.lower():
        return "it does not answer in time; check the network"
    return f"the connection broke ({one_line(error, 120) or 'closed'}); check the network"


def _busy(error: HubBusyError, asked: Asked) -> RunError:
    told = f" ({one_line(error, 200)})" if str(error) else ""
    if error.status == 429:
        when = f" in {format_duration(error.after)}" if error.after else " in a few minutes"
        return RunError(f"The Hub received too many requests{told}; try again{when}: {KEPT}.")
    return RunError(
        f"The Hub at {asked.endpoint} fails (HTTP {error.status}{told}); try again later: {KEPT}."
    )


def _full(told: str, asked: Asked) -> RunError:
    owner = asked.repo.partition("/")[0]
    return RunError(
        f"The Hub accepts no more data for {one_line(owner)}: {told}; make room at "
        f"{asked.endpoint}/settings/storage, or upload to another owner with --repo OWNER/NAME."
    )


def _answered(error: HfHubHTTPError, asked: Asked) -> UserError:
    status = error.response.status_code
    told = one_line(getattr(error, "server_message", None) or "", 300).removesuffix(".")
    repo = one_line(asked.repo, 120)
    tokens = f"{asked.endpoint}/settings/tokens"
    if status == 401:
        again = (
            "set HF_TOKEN to it" if asked.token_source == "HF_TOKEN" else "`hf auth login --force`"
        )
        return UserError(
            f"The Hub does not accept the token from {asked.token_source}; make one with write "
            f"access at {tokens} and log in with it: {again}."
        )
    because = f": {told}" if told else ""
    if status in _NO_ROOM or (status in (400, 403) and any(w in told.lower() for w in _FULL)):
        return _full(told or f"HTTP {status}", asked)
    if status == 403:
        return UserError(
            f"You may not write to {repo}{because}; name one of your own with --repo, or log in "
            f"with a token that has write access there ({tokens})."
        )
    if status == 404:
        return UserError(
            f"There is no repository {repo} that you can see{because}; check --repo, and that the "
            "token may read it."
        )
    if status == 400:
        return UserError(f"The Hub refuses this{because or ' (HTTP 400)'}.")
    if status in (409, 412):
        return RunError(
            f"{repo} was changed by someone else during the upload{because}; try again: {KEPT}."
        )
    return RunError(f"The Hub at {asked.endpoint} answers HTTP {status}{because}.")
