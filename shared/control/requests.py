"""Requests to a run: one small file each, answered with an event."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.files import read_json, replace_file
from shared.json_text import Json, encode_line
from shared.ownership.process import host_name
from shared.text import one_line

#: The actions of a run and who serves them: its `trainer` while it lives, a `daemon` otherwise.
#: `resume` continues a paused run and restarts a dead one.
ACTIONS: Mapping[str, frozenset[str]] = {
    "pause": frozenset({"trainer"}),
    "resume": frozenset({"trainer", "daemon"}),
    "stop": frozenset({"trainer", "daemon"}),
    "checkpoint": frozenset({"trainer"}),
    "cancel": frozenset({"daemon"}),
    "prune": frozenset({"trainer", "daemon"}),
    "upload": frozenset({"trainer", "daemon"}),
    "uploaded": frozenset({"trainer", "daemon"}),
    "evaluated": frozenset({"trainer", "daemon"}),
}
_REQUEST = re.compile(r"[0-9]{19}-[0-9a-f]{8}\.json")


@dataclass(frozen=True)
class Request:
    """One request: the action, its arguments, and who asked."""

    request_id: str
    action: str
    arguments: Json
    asked_by: str
    path: Path

    @property
    def asked_at(self) -> float:
        """The time of the request in Unix seconds."""
        return int(self.request_id.partition("-")[0]) / 1e9

    def remove(self) -> None:
        """Remove the file, after the answer is in the events."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def served_by(who: str) -> list[str]:
    """The actions that `who` (trainer, daemon) serves, by name."""
    return sorted(action for action, servers in ACTIONS.items() if who in servers)


def path_of(control: Path, request_id: str) -> Path:
    """The file of a request."""
    return control / f"{request_id}.json"


def answer_fields(request: Request, *, ok: bool, message: str) -> Json:
    """The fields of the `answer` event."""
    return {
        "request": request.request_id,
        "action": one_line(request.action),
        "asked_by": one_line(request.asked_by),
        "ok": ok,
        "message": message,
    }


def submit(control: Path, action: str, arguments: Mapping[str, Any] | None = None) -> str:
    """Leave a request; returns its id, which the answering event repeats.

    Raises OSError when the folder cannot be written.
    """
    request_id = f"{time.time_ns():019d}-{uuid.uuid4().hex[:8]}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    record = {
        "id": request_id,
        "action": action,
        "arguments": dict(arguments or {}),
        "asked_by": f"{user}@{host_name()}:{os.getpid()}",
        "time": time.time(),
    }
    replace_file(path_of(control, request_id), encode_line(record) + b"\n")
    return request_id


def names_of_requests(control: str | Path) -> list[str]:
    """The file names of the requests in a folder, oldest first."""
    try:
        return sorted(n for n in os.listdir(control) if _REQUEST.fullmatch(n))  # noqa: PTH208
    except OSError:
        return []


def pending(control: Path) -> list[Request]:
    """The unanswered requests, oldest first. Other files are ignored."""
    requests: list[Request] = []
    for name in names_of_requests(control):
        if not (control / name).is_file():  # pipes would block, and answered requests are gone
            continue
        value = read_json(control / name)
        action = value.get("action") if value else None
        arguments = value.get("arguments") if value else None
        requests.append(
            Request(
                request_id=name.removesuffix(".json"),
                action=action if isinstance(action, str) else "",
                arguments=arguments if isinstance(arguments, dict) else {},
                asked_by=str((value or {}).get("asked_by", "")),
                path=control / name,
            )
        )
    return requests
