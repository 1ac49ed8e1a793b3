"""The requests to a run, collected by one thread and taken by another."""

from __future__ import annotations

import threading
from pathlib import Path

from shared.control.requests import Request, pending


class Inbox:
    """Requests that arrived in a `control/` folder."""

    def __init__(self, control: Path) -> None:
        self._control = control
        self._guard = threading.Lock()
        self._arrived: list[Request] = []
        self._seen: frozenset[str] = frozenset()

    def look(self) -> None:
        """List the folder and keep what is new."""
        seen = self._seen
        found = pending(self._control)
        self._seen = frozenset(request.request_id for request in found)
        new = [request for request in found if request.request_id not in seen]
        if new:
            with self._guard:
                self._arrived = self._arrived + new

    @property
    def waiting(self) -> int:
        """How many requests arrived and were not taken yet."""
        return len(self._arrived)

    def take(self) -> list[Request]:
        """What arrived since the last call, oldest first. Makes no system call."""
        if not self._arrived:
            return []
        with self._guard:
            taken, self._arrived = self._arrived, []
        return taken
