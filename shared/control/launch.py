"""Starting a trainer that outlives the program that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from shared.errors import RunError
from shared.ownership.health import observe
from shared.run.directory import RunDirectory
from shared.run.records import ENDED_STATUSES, RunState
from shared.text import one_line

START_TIMEOUT = 60.0  # seconds: importing torch from a cold disk takes a while


def resume_detached(
    run: RunDirectory,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `trainer resume RUN` in its own session, its console going into `train.log`.

    A daemon may start such a run again; `environment` is added to this process's. Raises RunError
    when the process cannot be started or the log cannot be written.
    """
    path = str(run.path.resolve())
    command = [sys.executable, "-m", "trainer", "resume", path, "--supervised", *options]
    try:
        with run.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
    except OSError as error:
        raise RunError(f"Cannot start the trainer for {run.run_id}: {error.strerror}.") from error


def wait_until_running(
    run: RunDirectory, process: subprocess.Popen[bytes], timeout: float = START_TIMEOUT
) -> str:
    """Wait until the started trainer owns the run and is past its start; returns its status.

    Raises RunError with the last line of the log when it ends or takes longer than `timeout`.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        state = run.read_state() or RunState()
        if state.pid == process.pid and state.status != "initializing":
            health = observe(run, state)
            if health.alive or state.status in ENDED_STATUSES:
                return health.status
        if process.poll() is not None:
            raise RunError(
                f"The trainer of {run.run_id} ended at once (exit code {process.returncode}): "
                f"{last_log_line(run)}"
            )
        time.sleep(0.05)
    return "still starting"  # a large checkpoint takes its time; the process lives


def last_log_line(run: RunDirectory) -> str:
    """The last line of `train.log` that says something."""
    lines = last_log_lines(run, 1)
    if lines is None:
        return "its log cannot be read"
    return lines[-1] if lines else "its log is empty"


def last_log_lines(run: RunDirectory, count: int) -> list[str] | None:
    """The last lines of `train.log` that say something; None when it cannot be read."""
    try:
        with run.log_path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
            lines = log.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    return [one_line(line, 300) for line in lines if line.strip()][-count:]
