"""The watching side of actions: asked once, whatever becomes of the link meanwhile."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.control.waiting import Pause, sleep
from shared.errors import RunError, UserError
from shared.json_text import Json
from shared.remote.client import Link, LinkError
from shared.text import one_line

FIRST_WAIT, LONGEST_WAIT = 0.1, 1.0  # seconds between two questions what became of it
_RECONNECTING = 0.2  # seconds between two looks whether there is a link again


class Linked(Protocol):
    """A host, as actions see it."""

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def link(self) -> Link | None:
        """The link, while there is one."""

    def why_not(self, act: str) -> str:
        """Why the host cannot do this; empty if it can."""


@dataclass(frozen=True)
class Wish:
    """Something to be done on a host; `run` is a run's name there, or empty for the whole folder.

    `changes`: it must not happen twice.
    """

    act: str
    run: str
    arguments: Json
    changes: bool = True
    request_id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def head(self) -> Json:
        """The request."""
        told = {"act": self.act, "run": self.run, "arguments": self.arguments}
        return {"op": "act", "id": self.request_id, **told}


def carry_out(
    host: Linked,
    wish: Wish,
    *,
    pause: Pause = sleep,
    tell: Callable[[Json], None] = lambda _: None,
    cancelled: threading.Event | None = None,
) -> Any:
    """Have `wish` done on `host`; its result, or None when `pause` stopped the wait.

    `tell` is given the progress. `cancelled`, once set, asks the host to end it. Raises UserError
    with what the host refuses, RunError when it is not known what became of it, LinkError when
    there was no link from the beginning.
    """
    if why := host.why_not(wish.act):
        raise UserError(why)
    link = host.link
    if link is None:
        raise LinkError(f"There is no link to {host.name} at the moment; nothing was done.")
    wait, asked_to_end, begun = FIRST_WAIT, False, False
    head = wish.head
    while True:
        try:
            # What the host has not heard of cannot be ended there.
            if begun and cancelled is not None and cancelled.is_set() and not asked_to_end:
                link.request({"op": "cancel", "id": wish.request_id})
                asked_to_end = True
            state = link.request(head)[0]
        except LinkError:
            again = _next_link(host, link, pause)
            if again is None:
                return None
            link = again
            # What did not arrive must not be done later, when nobody expects it any more.
            head = _question(wish) if wish.changes else wish.head
            continue
        word = state.get("state")
        if word == "running":
            begun = True
            progress = state.get("progress")
            if isinstance(progress, dict):
                tell(progress)
            if _rest(pause, wait, cancelled if not asked_to_end else None):
                return None
            wait, head = min(2 * wait, LONGEST_WAIT), _question(wish)
            continue
        return _outcome(host, wish, state)


def _question(wish: Wish) -> Json:
    return {"op": "acted", "id": wish.request_id, "settle": wish.changes}


def _outcome(host: Linked, wish: Wish, state: Json) -> Any:
    word = state.get("state")
    if word == "done":
        return state.get("result")
    if word == "refused":
        problem = one_line(state.get("problem") or "it was refused", 1000)
        kind = UserError if state.get("code") == UserError.exit_code else RunError
        raise kind(f"{host.name}: {problem}")
    if word == "unknown":
        raise RunError(
            f"The link to {host.name} was lost before the request arrived: nothing was done. "
            "Try again."
        )
    if word == "lost":
        raise RunError(
            f"{host.name} began with it, and its process ended before it was done; look at the run "
            "before you try again."
        )
    raise RunError(f"{host.name} answers what this program does not understand.")


def _next_link(host: Linked, lost: Link, pause: Pause) -> Link | None:
    """The link that is made after `lost`; None when `pause` stopped the wait."""
    while True:
        link = host.link
        if link is not None and link is not lost:
            return link
        if pause(_RECONNECTING):
            return None


def _rest(pause: Pause, seconds: float, cancelled: threading.Event | None) -> bool:
    """Sleep, but not when it was cancelled; True when the wait is to stop."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if cancelled is not None and cancelled.is_set():
            return False
        if pause(min(left, 0.1) if cancelled is not None else left):
            return True
    return False
