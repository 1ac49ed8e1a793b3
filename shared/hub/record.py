"""Recording in a run that one of its checkpoints is on the Hub."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from shared.control.idle_run import IdleRun, hold_if_idle
from shared.control.requests import submit
from shared.errors import UserError
from shared.hub.settings import Uploaded
from shared.run.directory import RunDirectory
from shared.text import one_line

EVENT = "uploaded"
REQUEST = "uploaded"  # asks the owner of a run to write that event
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
    """Record an upload in its run: through its files, or with a request while its trainer lives.

    Returns a sentence if that failed. The upload itself is not affected.
    """
    try:
        with hold_if_idle(run) as idle:
            if idle is None:
                submit(run.control, REQUEST, uploaded.to_json())
            else:
                idle.event(EVENT, **uploaded.to_json())
                _remember(idle, uploaded.repo)
    except OSError as error:
        return (
            f"The upload could not be written into {one_line(run.path)}: {error.strerror}; the "
            "run will not show it."
        )
    return ""


def remember_repo(run: RunDirectory, repo: str) -> None:
    """Store the repository that was named, even if the upload fails. Not while the run lives."""
    with contextlib.suppress(OSError), hold_if_idle(run) as idle:
        if idle is not None:
            _remember(idle, repo)


def _remember(idle: IdleRun, repo: str) -> None:
    if idle.has_state and idle.state.hub_repo != repo:
        idle.update(hub_repo=repo)


def serve_uploaded(
    arguments: Mapping[str, Any],
    tell: Callable[..., None],
    update: Callable[..., None],
) -> str:
    """Do what an `uploaded` request asks, for the run's owner; returns the answer.

    `tell` and `update` are methods of `RunWriter` or `IdleRun`: `event` and `update`. Raises
    UserError if `arguments` is not the record of an upload.
    """
    given = {name: arguments.get(name) for name in _FIELDS}
    if set(arguments) - set(_FIELDS) or any(
        type(given[name]) is not kind for name, kind in _FIELDS.items()
    ):
        raise UserError(f"{one_line(dict(arguments))} is not the record of an upload.")
    record = {k: one_line(v, _LONGEST) if isinstance(v, str) else v for k, v in given.items()}
    tell(EVENT, **record)
    update(hub_repo=record["repo"])
    return f"{record['name']} is at {record['url']}"
