"""Leaving a run to a daemon, which starts it when there is room."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.control.daemons import DaemonView, watching
from shared.errors import UserError
from shared.files import replace_file
from shared.run.directory import RunDirectory
from shared.text import one_line
from trainer.config.resolve import to_yaml
from trainer.launch.checks import check_ahead, newest_checkpoint
from trainer.launch.claim import check_writable, claim
from trainer.launch.create import create
from trainer.launch.queue import queue_of

if TYPE_CHECKING:
    from shared.ownership.lock import RunLock
    from trainer.launch.request import LaunchRequest


@dataclass(frozen=True)
class Queued:
    """A run in the queue: how many are before it, and the daemon that will start it, if any."""

    run: RunDirectory
    behind: int
    daemon: DaemonView | None


def launch_queued(request: LaunchRequest, runs_dir: Path) -> Queued:
    """Check a request and leave it to a daemon. Raises UserError, RunError."""
    if request.run is None:
        check_writable(runs_dir)
        check_ahead(request)
        return _place(create(request.new_config(), runs_dir, supervised=True))
    run, lock = request.run, claim(request.run)
    try:
        if request.checkpoint is not None and newest_checkpoint(run)[0] is not None:
            raise UserError(
                f"--queue resumes {run.run_id} from its newest checkpoint; to resume from "
                f"{one_line(request.checkpoint.name)}, start it now with --detach."
            )
        checked = check_ahead(request)
        replace_file(run.config_path, to_yaml(request.new_config()).encode())
        _queue_again(run, lock, {"max_steps": checked.plan.max_steps})
    finally:
        lock.release()
    return _place(run)


def _queue_again(run: RunDirectory, lock: RunLock, changes: dict[str, Any]) -> None:
    """Put a run that was started before into the queue; `changes` are fields of its state."""
    from shared.control.idle_run import IdleRun

    try:
        with IdleRun(run, lock) as record:
            record.queue(changes)
    except OSError as error:
        raise UserError(f"Cannot write in {run.path}: {error.strerror}.") from error


def _place(run: RunDirectory) -> Queued:
    runs_dir = run.path.parent
    before = [other for other in queue_of(runs_dir) if other != run.run_id]
    daemons = watching(runs_dir)
    return Queued(run, len(before), daemons[0] if daemons else None)
