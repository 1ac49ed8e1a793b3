"""Starting a trainer that outlives the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from shared.control.waiting import Patience, wait_for
from shared.errors import RunError
from shared.ownership.health import observe
from shared.run.directory import RunDirectory
from shared.run.log import last_log_line
from shared.run.records import ENDED_STATUSES, RunState

START_TIMEOUT = 60.0  # seconds: importing torch from a cold disk takes a while
_START = Patience(timeout=START_TIMEOUT, look=0.05)


def resume_detached(
    run: RunDirectory,
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    python: str = "",
) -> subprocess.Popen[bytes]:
    """Start `trainer resume RUN` in its own session, with its console in `train.log`.

    A daemon may start such a run again. `environment` is added to this process's. `python` is the
    interpreter, by default this process's. Raises RunError when the process cannot be started or
    the log cannot be written.
    """
    path = str(run.path.resolve())
    command = [python or sys.executable, "-m", "trainer", "resume", path, "--supervised", *options]
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
    run: RunDirectory,
    process: subprocess.Popen[bytes],
    patience: Patience = _START,
) -> str:
    """Wait until the started trainer owns the run and has begun; returns its status.

    Raises RunError with the last line of the log if the trainer ends before that.
    """

    def status() -> str | None:
        state = run.read_state() or RunState()
        ours = process.pid in (state.pid, state.launcher_pid)
        if ours and state.status != "initializing":
            health = observe(run, state)
            if health.alive or state.status in ENDED_STATUSES:
                return health.status
        if process.poll() is not None:
            raise RunError(
                f"The trainer of {run.run_id} ended immediately (exit code {process.returncode}): "
                f"{last_log_line(run)}"
            )
        return None

    # A large checkpoint takes its time, and the process is alive.
    return wait_for(status, patience) or "still starting"
