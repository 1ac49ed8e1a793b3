"""What went wrong with a download, as one sentence that says what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from shared.errors import UserError
from shared.hub.client import HubBusyError, NetworkDroppedError
from shared.hub.names import HubName
from shared.hub.partial_file import no_room
from shared.hub.problems import Asked, chain, why_unreachable, without_secrets
from shared.text import format_duration, one_line

_KEPT = "what has arrived stays in the cache"


def explain_download(error: BaseException, name: HubName, asked: Asked, cache: Path) -> UserError:
    """The message for `error`, without token or password whatever the server said."""
    return without_secrets(_explain(error, name, asked, cache), asked)


def offline(name: HubName, cache: Path) -> UserError:
    """Nothing may be downloaded, and the cache does not have the model."""
    return UserError(
        f"HF_HUB_OFFLINE is set, and neither a folder {name.repo} nor the cache in "
        f"{one_line(cache)} has this model; unset it, or run `hf download {name.repo}` where the "
        "Hub can be reached and copy the cache."
    )


def incomplete(name: HubName, missing: list[str], why: UserError) -> UserError:
    """The cache has a part of the model, and the rest cannot be downloaded."""
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    reason = str(why).removesuffix(".")
    return UserError(
        f"The cache lacks {one_line(missing[0], 80)}{more} of {name.short}, which cannot be "
        f"downloaded: {reason}."
    )


def _explain(error: BaseException, name: HubName, asked: Asked, cache: Path) -> UserError:
    for one in chain(error):
        if isinstance(one, UserError):
            return one
        if isinstance(one, OfflineModeIsEnabled):
            return offline(name, cache)
        if isinstance(one, NetworkDroppedError):
            return UserError(
                f"{name.short} is no folder here, and it cannot be downloaded from "
                f"{asked.endpoint}: {why_unreachable(one)}, or give the path of a model folder."
            )
        if isinstance(one, HubBusyError):
            return _busy(one, asked)
        if isinstance(one, HFValidationError):
            return _nothing(name, asked)
        if isinstance(one, HfHubHTTPError):
            return _answered(one, name, asked)
    for one in chain(error):
        if isinstance(one, OSError):
            if one.errno in (errno.ENOSPC, errno.EDQUOT):
                return no_room(cache, 1)
            place = f"{one_line(one.filename)}: " if one.filename else ""
            reason = one.strerror or one_line(one)
            return UserError(f"{name.short} cannot be downloaded: {place}{reason}.")
    told = one_line(error, 300).removesuffix(".")
    hint = "" if "://" in asked.endpoint else "; check HF_ENDPOINT"
    return UserError(f"{name.short} cannot be downloaded from {asked.endpoint}: {told}{hint}.")


def _busy(error: HubBusyError, asked: Asked) -> UserError:
    told = f" ({one_line(error, 200)})" if str(error) else ""
    when = f"in {format_duration(error.after)}" if error.after else "in a few minutes"
    if error.status == 429:
        return UserError(f"The Hub received too many requests{told}; try again {when}: {_KEPT}.")
    return UserError(
        f"The Hub at {asked.endpoint} fails (HTTP {error.status}{told}); try again {when}: {_KEPT}."
    )


def _nothing(name: HubName, asked: Asked) -> UserError:
    seen = "that you can see" if asked.token else "that is public"
    login = "" if asked.token else ", or log in with `hf auth login` if it is private"
    return UserError(
        f"{name.repo} is no folder here, and {asked.endpoint} has no model of this "
        f"name {seen}; check the spelling{login}."
    )


def _answered(error: HfHubHTTPError, name: HubName, asked: Asked) -> UserError:
    status = error.response.status_code
    told = one_line(getattr(error, "server_message", None) or "", 300).removesuffix(".")
    because = f": {told}" if told else ""
    if isinstance(error, GatedRepoError):
        login = "" if asked.token else ", log in with `hf auth login`,"
        return UserError(
            f"{name.repo} is gated: accept its terms at {asked.endpoint}/{name.repo}{login} and "
            "try again."
        )
    if isinstance(error, DisabledRepoError):
        return UserError(f"The Hub has disabled {name.repo}{because}.")
    if isinstance(error, RevisionNotFoundError):
        return UserError(
            f"{name.repo} has no branch, tag or commit {one_line(name.revision, 80)!r}."
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return UserError(f"A file of {name.short} is gone from the Hub{because}; try again.")
    if isinstance(error, RepositoryNotFoundError):
        return _nothing(name, asked)
    if status == 401 and not asked.token:
        return _nothing(name, asked)
    if status == 401:
        return UserError(
            f"The Hub does not accept the token from {asked.token_source}; make one at "
            f"{asked.endpoint}/settings/tokens and log in with it: `hf auth login --force`."
        )
    if status == 403:
        return UserError(
            f"You may not read {name.repo}{because}; log in with a token that may "
            "(`hf auth login`)."
        )
    if status == 404:
        return _nothing(name, asked)
    return UserError(f"The Hub at {asked.endpoint} answers HTTP {status}{because}.")
