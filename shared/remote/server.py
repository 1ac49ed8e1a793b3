"""`train-monitor --serve DIR`: the host's side where train-monitor is installed.

What the agent does, and health judged as the monitor judges it on this host.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import __version__
from shared.files import read_json
from shared.ownership.health import observe
from shared.ownership.heartbeat import BeatWatch
from shared.ownership.process import host_name
from shared.remote import agent
from shared.remote.agent import Folder, Service
from shared.remote.protocol import Head
from shared.run.directory import RunDirectory
from shared.run.records import ACTIVE_STATUSES, RunState

_MAX_STATE = 16 << 20  # bytes


class Server(Service):
    """A service that knows what runs are."""

    def __init__(self, folder: Folder, pause: Callable[[float], bool]) -> None:
        super().__init__(folder, pause)
        self._watches: dict[str, BeatWatch] = {}
        self._states: dict[str, tuple[tuple[int, int], RunState]] = {}

    def hello(self) -> Head:
        """What is said first."""
        return {
            **super().hello(),
            "agent": False,
            "program": __version__,
            "host": host_name(),
        }

    def act(self, head: Head) -> Head:
        """Actions are not served yet."""
        return {"error": "this version only shows runs; use the command on the host"}

    def health(self, run: str) -> list[Any]:
        """Status, whether a process owns the run, reason and alarm."""
        directory = RunDirectory(Path(self.folder.root, run))
        state = self._state(run, directory)
        if state is None:
            return super().health(run)
        watch = self._watches.setdefault(run, BeatWatch())
        found = observe(directory, state, time.time(), watch)
        if state.status not in ACTIVE_STATUSES and not found.alive:
            self._watches.pop(run, None)
        return [found.status, found.alive, found.reason, found.alarm]

    def _state(self, run: str, directory: RunDirectory) -> RunState | None:
        try:
            status = os.stat(directory.state_path)  # noqa: PTH116
        except OSError:
            return None
        seen = status.st_mtime_ns, status.st_ino
        known = self._states.get(run)
        if known is not None and known[0] == seen:
            return known[1]
        value = read_json(directory.state_path, _MAX_STATE)
        if value is None:
            return known[1] if known else None
        state = RunState.from_json(value)
        self._states[run] = seen, state
        return state


def serve(path: str) -> int:
    """Serve a folder on standard input and output until they end; returns the exit code."""
    return agent.serve(path, Server)
