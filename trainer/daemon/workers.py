"""The training processes: those that this daemon started, and those that it found running."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from shared.control.launch import resume_detached
from shared.ownership.process import ProcessIdentity, identify
from shared.run.directory import RunDirectory
from trainer.daemon.care import Care

#: Set for a daemon's workers: the daemon sends their alerts and restarts them.
SUPERVISED = "TRAINER_SUPERVISED"


class Process(Protocol):
    """A child process, as returned by a launcher."""

    @property
    def pid(self) -> int:
        """Its pid."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""


class Launcher(Protocol):
    """Starts a trainer on a run in its own session, with additional environment variables."""

    def __call__(self, run: RunDirectory, environment: Mapping[str, str]) -> Process:
        """Raises RunError when it cannot be started."""


def launch(run: RunDirectory, environment: Mapping[str, str]) -> Process:
    """`trainer resume RUN` without options: a restart changes no setting."""
    return resume_detached(run, environment=environment)


@dataclass(frozen=True)
class Gone:
    """A worker that has ended; `code` is None if it is unknown."""

    code: int | None


class Workers:
    """Starts and watches workers. Never waits for one."""

    def __init__(self, launcher: Launcher = launch) -> None:
        self._launcher = launcher
        self._children: dict[str, Process] = {}

    def start(self, run: RunDirectory, environment: Mapping[str, str]) -> ProcessIdentity:
        """Start a worker; returns its identity. Raises RunError."""
        process = self._launcher(run, {SUPERVISED: "1", **environment})
        self._children[run.run_id] = process
        return identify(process.pid)

    def look(self, care: Care) -> Gone | None:
        """How the worker of a run ended, None while it runs."""
        child = self._children.get(care.run_id)
        if child is not None and care.worker is not None and child.pid == care.worker.pid:
            code = child.poll()
            return None if code is None else Gone(code)
        alive = care.worker is not None and care.worker.is_alive()
        return None if alive else Gone(None)

    def forget(self, run_id: str) -> None:
        """The run is no longer under care, or the end of its worker was handled."""
        child = self._children.get(run_id)
        if child is None or child.poll() is not None:
            self._children.pop(run_id, None)

    @staticmethod
    def terminate(care: Care) -> None:
        """Ask a living worker to save and end."""
        if care.worker is not None and care.worker.is_alive():
            with contextlib.suppress(OSError):  # it has just ended, or belongs to another user
                os.kill(care.worker.pid, signal.SIGTERM)


def describe_end(code: int | None, step: int, words: str) -> str:
    """How a worker ended, in words: `killed by SIGKILL at step 120`."""
    if code is None:
        how = "gone without an exit record"
    elif code < 0:
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
    else:
        how = f"exit code {code}"
    return f"{how} at step {step}" + (f": {words}" if words else "")
