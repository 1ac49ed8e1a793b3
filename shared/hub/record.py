"""Writing into a run's record that a checkpoint of it is on the Hub."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from shared.checkpoints.prune import event_teller
from shared.control.requests import submit
from shared.errors import UserError
from shared.files import read_json, write_json
from shared.hub.settings import Uploaded
from shared.ownership.claim import ownership
from shared.run.directory import RunDirectory
from shared.text import one_line

EVENT = "uploaded"
REQUEST = "uploaded"  # asks a run's owner to write that event: nobody else may
_FIELDS: dict[str, type] = {
    "name": str,
    "repo": str,
    "url": str,
    "revision": str,
    "private": bool,
    "files": int,
    "bytes": int,
}
_LONGEST = 500  # characters


def record_upload(run: RunDirectory, uploaded: Uploaded) -> str:
    """Tell the run: itself while it lives, by its files otherwise.

    Returns a sentence when it could not be told, which takes nothing from the upload.
    """
    try:
        with ownership(run) as ours:
            if ours:
                write_record(run, uploaded)
            else:
                submit(run.control, REQUEST, uploaded.to_json())
    except OSError as error:
        return (
            f"The upload could not be written into {one_line(run.path)}: {error.strerror}; the "
            "run will not show it."
        )
    return ""


def write_record(run: RunDirectory, uploaded: Uploaded) -> None:
    """The event, and the repository in the state. For the holder of the run's lock.

    Raises OSError.
    """
    event_teller(run)(EVENT, **uploaded.to_json())
    _remember(run, uploaded.repo)


def remember_repo(run: RunDirectory, repo: str) -> None:
    """Keep the name that was asked for, though the upload may fail yet. Not while the run lives."""
    with contextlib.suppress(OSError), ownership(run) as ours:
        if ours:
            _remember(run, repo)


def _remember(run: RunDirectory, repo: str) -> None:
    # What a newer program has written there stays.
    state = read_json(run.state_path)
    if state is not None and state.get("hub_repo") != repo:
        write_json(run.state_path, {**state, "hub_repo": repo})


def serve_uploaded(
    arguments: Mapping[str, Any],
    tell: Callable[..., None],
    update: Callable[..., None],
) -> str:
    """Do what an `uploaded` request asks, for the run's owner; returns the sentence to answer.

    `tell` is `RunWriter.event` and `update` is `RunWriter.update`, or what a daemon has for them.
    Raises UserError for anything else than the record of an upload.
    """
    given = {name: arguments.get(name) for name in _FIELDS}
    if set(arguments) - set(_FIELDS) or any(
        type(given[name]) is not kind for name, kind in _FIELDS.items()
    ):
        raise UserError(f"{one_line(dict(arguments))} is no record of an upload.")
    record = {k: one_line(v, _LONGEST) if isinstance(v, str) else v for k, v in given.items()}
    tell(EVENT, **record)
    update(hub_repo=record["repo"])
    return f"{record['name']} is at {record['url']}"


def serve_uploaded_here(run: RunDirectory, arguments: Mapping[str, Any]) -> str:
    """The same for a run without a trainer. For the holder of the run's lock. Raises OSError."""
    return serve_uploaded(
        arguments, event_teller(run), lambda hub_repo: _remember(run, str(hub_repo))
    )
