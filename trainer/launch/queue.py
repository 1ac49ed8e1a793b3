"""The queue of a runs directory: the order in which daemons start its runs."""

from __future__ import annotations

from pathlib import Path

from shared.run.directory import discover_runs
from shared.run.records import RunState


def queue_of(runs_dir: Path) -> list[str]:
    """The ids of the queued runs that a daemon may start, in the order it will start them."""
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
