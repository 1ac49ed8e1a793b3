"""A model repository of the Hub comes into huggingface_hub's cache: the one door for downloads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import HfApi, constants

from shared.errors import UserError
from shared.files import replace_file
from shared.hub.client import Patience, once, patient
from shared.hub.download_problems import explain_download, incomplete, offline
from shared.hub.fetching import PROGRAM, Advance, Fetch, snapshot, storage
from shared.hub.login import token_if_any
from shared.hub.model_files import Want, missing_files, runs_own_code
from shared.hub.names import HubName
from shared.hub.problems import Asked, split_password
from shared.hub.settings import WAITS, HubCancelledError
from shared.text import format_duration

_MAIN = "main"

CANCELLED = (
    "The download was cancelled; what has arrived stays in the cache, and the same command "
    "continues there."
)


@dataclass(frozen=True)
class DownloadProgress:
    """How far it is. `bytes` of `total` are there; `note` tells why it waits."""

    file: str = ""
    bytes: int = 0
    total: int = 0
    note: str = ""


@dataclass(frozen=True)
class Downloaded:
    """A model in the cache. `name` has the commit, `notes` are sentences a person should read."""

    name: HubName
    folder: Path
    notes: tuple[str, ...] = ()


Progress = Callable[[DownloadProgress], None]
"""Called from the downloading thread, often; must be quick."""

Check = Callable[[Path], None]
"""Called with the folder as soon as it has everything but the weights; may raise UserError."""


def _unwatched(progress: DownloadProgress) -> None:
    """A `Progress` that nobody looks at."""


def cached_model(name: HubName, want: Want = Want.MODEL) -> Downloaded | None:
    """The model as far as the cache has it whole; None otherwise. Asks no network."""
    place = storage(name)
    commit = name.revision
    if not name.is_pinned:
        try:
            commit = (place / "refs" / (name.revision or _MAIN)).read_text().strip()
        except (OSError, UnicodeError):
            return None
    pinned = name.at(commit)
    folder = snapshot(pinned)
    if not pinned.is_pinned or missing_files(folder, want):
        return None
    return Downloaded(pinned, folder, _notes(pinned, folder))


def download_model(
    name: HubName,
    want: Want = Want.MODEL,
    *,
    progress: Progress = _unwatched,
    check: Check | None = None,
    cancel: threading.Event | None = None,
    waits: Sequence[float] = WAITS,
) -> Downloaded:
    """The model in huggingface_hub's cache, downloaded as far as it is not there.

    Only safetensors, configuration and tokenizer. A commit that the cache has needs no network;
    where the Hub cannot be asked, the cached state of a branch is used, with a note. `waits` are
    the seconds before a request that failed is tried again.

    Raises UserError with one sentence that says what to do, HubCancelledError.
    """
    cached = cached_model(name, want)
    if cached and name.is_pinned and not missing_files(cached.folder, Want.TOKENIZER):
        return cached
    cache = Path(constants.HF_HUB_CACHE)
    shown, password = split_password(constants.ENDPOINT.rstrip("/"))
    token, where = token_if_any()
    asked = Asked(shown, name.repo, where, token, password)

    def waited(why: str, seconds: float) -> None:
        progress(DownloadProgress(note=f"{why}; trying again in {format_duration(seconds)}"))

    def cancelled() -> HubCancelledError:
        return HubCancelledError(CANCELLED)

    patience = Patience(tuple(waits), cancel or threading.Event(), waited, cancelled=cancelled)
    try:
        if constants.is_offline_mode():
            if cached is not None:
                return cached
            raise offline(name, cache)
        with patient(patience if cached is None else replace(patience, waits=())), once(busy=False):
            commit, sizes = _listing(name, token)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        told = explain_download(error, name, asked, cache)
        if cached is None or isinstance(told, HubCancelledError):
            raise _about_the_cache(told, name, want) from (None if told is error else error)
        note = f"{told} The cached copy is used: {cached.name.short}."
        return replace(cached, notes=(note, *cached.notes))
    pinned = name.at(commit)
    try:
        with patient(patience):
            advance = _advancing(progress)
            fetch = Fetch(pinned, want, sizes, token or False, patience, advance)
            folder = fetch.run(check)
            _remember(name, commit)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        told = explain_download(error, name, asked, cache)
        raise told from (None if told is error else error)
    return Downloaded(pinned, folder, _notes(pinned, folder))


def _about_the_cache(told: UserError, name: HubName, want: Want) -> UserError:
    """The error, with what the cache lacks if it has a part of the model."""
    folders = [snapshot(name)] if name.is_pinned else sorted(storage(name).glob("snapshots/*"))
    for folder in [] if isinstance(told, HubCancelledError) else folders[-1:]:
        if folder.is_dir() and (missing := missing_files(folder, want)):
            return incomplete(name, missing, told)
    return told


def _advancing(progress: Progress) -> Advance:
    def advance(file: str, done: int, total: int) -> None:
        progress(DownloadProgress(file, done, total))

    return advance


def _notes(name: HubName, folder: Path) -> tuple[str, ...]:
    if not runs_own_code(folder):
        return ()
    return (f"{name.repo} names Python code of its own (auto_map), which is not run.",)


def _remember(name: HubName, commit: str) -> None:
    """Record which commit a branch or tag is at, where huggingface_hub looks for it offline."""
    if not name.is_pinned:
        place = storage(name) / "refs" / (name.revision or _MAIN)
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, commit.encode(), durable=False)


def _listing(name: HubName, token: str) -> tuple[str, dict[str, int]]:
    """The commit of a revision, and the size of each of its files in bytes."""
    api = HfApi(token=token or False, **PROGRAM)
    info = api.model_info(name.repo, revision=name.revision or None, files_metadata=True)
    names = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    commit = str(info.sha or "")
    if not name.at(commit).is_pinned:
        raise UserError(f"The Hub names no commit of {name.short}; is HF_ENDPOINT a Hub?")
    return commit, names
