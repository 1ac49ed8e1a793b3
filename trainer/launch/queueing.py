"""Leaving a run to a daemon: putting it into the queue, and saying who will start it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.control.daemons import DaemonView, watching
from shared.errors import ExitCode, UserError
from shared.ownership.process import host_name
from shared.run.directory import RunDirectory, discover_runs
from shared.run.records import RunState
from shared.text import one_line

if TYPE_CHECKING:
    from shared.ownership.lock import RunLock


def queue_again(run: RunDirectory, lock: RunLock, changes: dict[str, Any]) -> None:
    """Put a run that was begun before into the queue; `changes` are fields of its state.

    Raises UserError when it cannot be written.
    """
    from trainer.daemon.run_record import RunRecord

    try:
        with RunRecord(run, lock) as record:
            record.queue(changes)
    except OSError as error:
        raise UserError(f"Cannot write in {run.path}: {error.strerror}.") from error


def tell_queued(run: RunDirectory) -> int:
    """Say that a run is queued, what is before it and which daemon starts it."""
    runs_dir = run.path.parent
    before = [other for other in queue_of(runs_dir) if other != run.run_id]
    place = f", behind {len(before)}" if before else ""
    print(f"{one_line(run.run_id)} is queued{place}")
    daemons = watching(runs_dir)
    if daemons:
        print(f"started by: {describe(daemons[0])}, when there is room")
    else:
        print(f"no daemon watches {one_line(runs_dir)}; start one with:")
        print(f"  trainer daemon --runs-dir {one_line(runs_dir)} --detach")
    print(f"take it out: trainer stop {one_line(run.path)}")
    return ExitCode.OK


def describe(daemon: DaemonView) -> str:
    """`the daemon on this host (process 12)`."""
    host = "this host" if daemon.host == host_name() else one_line(daemon.host)
    return f"the daemon on {host} (process {daemon.pid})"


def queue_of(runs_dir: Path) -> list[str]:
    """The ids of the queued runs that a daemon may start, the next one first."""
    waiting: list[tuple[float, str]] = []
    try:
        runs = discover_runs(runs_dir)
    except OSError:
        return []
    for run in runs:
        state = run.read_state() or RunState()
        if state.status == "queued" and state.supervised:
            waiting.append((state.updated_at or state.started_at or 0.0, run.run_id))
    return [run_id for _, run_id in sorted(waiting)]
