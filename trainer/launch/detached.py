"""Training in the background: checked here, then left to a process of its own."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from shared.control.idle_run import IdleRun
from shared.control.launch import resume_detached, wait_until_running
from shared.errors import ExitCode, RunError, UserError
from shared.run.directory import RunDirectory
from shared.run.records import ExitRecord
from trainer.launch.checks import check_ahead
from trainer.launch.claim import check_writable, claim
from trainer.launch.create import create
from trainer.launch.ranks import as_options
from trainer.launch.request import LaunchRequest


@dataclass(frozen=True)
class Detached:
    """A run that trains in process `pid`."""

    run: RunDirectory
    status: str
    pid: int


def launch_detached(request: LaunchRequest, runs_dir: Path) -> Detached:
    """Start the training in the background and wait until it runs.

    Raises UserError or RunError here for whatever would otherwise only be in a log.
    """
    if request.run is None:
        check_writable(runs_dir)
        check_ahead(request)
        run, options = create(request.new_config(), runs_dir), []
    else:
        run, options = request.run, as_options(request)
        lock = claim(run)
        try:
            check_ahead(request)
        finally:
            lock.release()
    process = resume_detached(run, options)
    try:
        status = wait_until_running(run, process)
    except RunError as error:
        _record_failed_start(run, str(error))
        raise
    return Detached(run, status, process.pid)


def _record_failed_start(run: RunDirectory, reason: str) -> None:
    """Record the failure of a trainer that died before it could, or the run looks queued."""
    with contextlib.suppress(OSError, UserError), IdleRun(run) as idle:
        if idle.has_state and idle.state.status == "queued":
            ended = ExitRecord(int(ExitCode.FAILURE), reason)
            idle.update(status="failed", ended_at=time.time(), exit=ended)
