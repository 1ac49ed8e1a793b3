"""`train-monitor --serve DIR`: the host's side where train-monitor is installed.

What the agent does, health judged as the monitor judges it on this host, and actions.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shared import __version__
from shared.files import read_json
from shared.ownership.health import observe
from shared.ownership.heartbeat import BeatWatch
from shared.ownership.process import host_name
from shared.remote import agent
from shared.remote.agent import Answer, Folder, Service
from shared.remote.jobs import Act, Jobs
from shared.remote.journal import Journal
from shared.remote.protocol import Head
from shared.run.directory import RunDirectory
from shared.run.records import ACTIVE_STATUSES, RunState

_MAX_STATE = 16 << 20  # bytes


#: The exit code after a link that broke; 1 and 2 are those of a program that cannot serve.
BROKEN = 3
Figures = Callable[[], Mapping[str, Any]]


class Server(Service):
    """A service that knows what runs are, and acts on them."""

    def __init__(
        self,
        folder: Folder,
        pause: Callable[[float], bool],
        acts: Mapping[str, Act] | None = None,
        machine: Figures | None = None,
    ) -> None:
        """`acts` are the actions by name; `machine` gives the figures of this host."""
        super().__init__(folder, pause)
        self._watches: dict[str, BeatWatch] = {}
        self._states: dict[str, tuple[tuple[int, int], RunState]] = {}
        self._journal = Journal(Path(folder.root))
        self._jobs = Jobs(acts or {}, self._journal)
        self._machine = machine

    def hello(self) -> Head:
        """What is said first."""
        return {
            **super().hello(),
            "agent": False,
            "program": __version__,
            "host": host_name(),
            "acts": self._jobs.names,
            "machine": self._machine is not None,
        }

    def answer(self, head: Head) -> Answer:
        """The answer to a request: about actions and the machine too."""
        operation = head.get("op")
        if operation == "acted":
            return self._jobs.state(head), b""
        if operation == "cancel":
            return self._jobs.cancel(head), b""
        if operation == "machine" and self._machine is not None:
            return dict(self._machine()), b""
        return super().answer(head)

    def act(self, head: Head) -> Head:
        """Begin an action; its state."""
        return self._jobs.begin(head)

    def finish(self) -> None:
        """Let what was begun come to its end."""
        self._jobs.finish()
        self._journal.sweep()

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


def serve(
    path: str,
    acts_in: Callable[[Path], Mapping[str, Act]] = lambda _: {},
    machine_of: Callable[[Path], Figures | None] = lambda _: None,
) -> int:
    """Serve a folder on standard input and output until they end; returns the exit code.

    Actions that were begun are finished first, also after a SIGTERM or SIGHUP, which may be sent
    to whatever a lost link has left.
    """
    servers: list[Server] = []

    def make(folder: Folder, pause: Callable[[float], bool]) -> Server:
        root = Path(folder.root)
        servers.append(Server(folder, pause, acts_in(root), machine_of(root)))
        return servers[-1]

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
    code = 0
    with contextlib.suppress(EOFError):  # of a signal that came after the link's end
        code = agent.serve(path, make)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
    _let_go()
    for server in servers:
        server.finish()
    return BROKEN if code else 0


def _let_go() -> None:
    """Nobody waits for us at the other end of the pipes, whatever is left to do."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.close(nothing)


def _end(number: int, frame: object) -> None:
    """As if the link had ended; once is enough."""
    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    raise EOFError
