"""The runs under a daemon's care, stored so that its successor can continue."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.files import read_json, write_json
from shared.json_text import is_number
from shared.ownership.process import ProcessIdentity
from trainer.daemon.policy import History

STARTING, RUNNING, WAITING = "starting", "running", "waiting"
_PHASES = frozenset({STARTING, RUNNING, WAITING})


@dataclass(frozen=True)
class Care:
    """One run under care.

    `phase`: its worker was started and does not own the run yet (starting), owns it (running), or
    the run waits for its restart at `next_start` in Unix seconds (waiting). `attempt` is the run's
    attempt before the last start, `gpu` an index of the daemon's GPUs, `reason` says how the last
    attempt ended.
    """

    run_id: str
    phase: str
    worker: ProcessIdentity | None = None
    attempt: int = 0
    gpu: int | None = None
    history: History = field(default_factory=History)
    next_start: float | None = None
    reason: str = ""
    oom_kills: Mapping[str, int] = field(default_factory=dict)

    @property
    def restarts(self) -> int:
        """How often it failed since its newest checkpoint."""
        return len(self.history.failures)


def write_care(path: Path, cares: Mapping[str, Care]) -> None:
    """Replace the record, durably. Raises OSError."""
    runs = {
        run_id: {**dataclasses.asdict(care), "history": care.history.to_json()}
        for run_id, care in sorted(cares.items())
    }
    write_json(path, {"runs": runs})


def read_care(path: Path) -> dict[str, Care]:
    """The runs that a predecessor had under its care; unreadable records are skipped."""
    value = read_json(path) or {}
    runs = value.get("runs")
    found: dict[str, Care] = {}
    for run_id, record in (runs if isinstance(runs, dict) else {}).items():
        plain = isinstance(record, dict) and "/" not in run_id and not run_id.startswith(".")
        if plain and record.get("phase") in _PHASES:
            found[run_id] = _read_one(run_id, record)
    return found


def _read_one(run_id: str, record: dict[str, Any]) -> Care:
    attempt, gpu, start = record.get("attempt"), record.get("gpu"), record.get("next_start")
    kills = record.get("oom_kills")
    return Care(
        run_id=run_id,
        phase=record["phase"],
        worker=_worker(record.get("worker")),
        attempt=attempt if type(attempt) is int else 0,
        gpu=gpu if type(gpu) is int else None,
        history=History.from_json(record.get("history")),
        next_start=float(start) if is_number(start) else None,  # type: ignore[arg-type]
        reason=str(record.get("reason") or ""),
        oom_kills={str(k): v for k, v in kills.items() if type(v) is int}
        if isinstance(kills, dict)
        else {},
    )


def _worker(value: object) -> ProcessIdentity | None:
    if not isinstance(value, dict):
        return None
    try:
        return ProcessIdentity.from_json(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
