"""Where a run stands: by its state, or without one by the newest records of its metrics."""

from __future__ import annotations

import time

from shared.json_text import Json
from shared.ownership.health import STALLED_AFTER, Health, observe
from shared.run.directory import RunDirectory
from shared.run.foreign import total_steps
from shared.run.newest_record import newest_records
from shared.run.records import RunState
from shared.text import format_time, one_line


def standing(run: RunDirectory, now: float | None = None) -> tuple[RunState, Health]:
    """The state of `run` and its real status.

    Of another program's run, which only writes metrics, what they tell of it.
    """
    return standing_of(run, run.read_state(), now)


def standing_of(
    run: RunDirectory, state: RunState | None, now: float | None = None
) -> tuple[RunState, Health]:
    """The same of a run whose state was read already; None: it has none."""
    now = time.time() if now is None else now
    if state is not None:
        return state, observe(run, state, now)
    told = told_by_metrics(run, newest_records(run.metrics_path), now)
    return told, Health(told.status, alive=False, reason=why_idle(told))


def told_by_metrics(run: RunDirectory, newest: list[Json], now: float) -> RunState:
    """What the `newest` records of a run without a state tell: status, step, total, phase.

    It is `running` while it writes, else `idle`; `updated_at` is when it last wrote.
    """
    last = newest[0] if newest else {}
    own = [record for record in newest if record.get("attempt") == last.get("attempt")]
    try:
        written: float | None = run.metrics_path.stat().st_mtime
    except OSError:
        written = None
    totals = (total_steps(record) for record in own)
    phases = (record["phase"] for record in own if isinstance(record.get("phase"), str))
    return RunState(
        run_id=run.run_id,
        status="running" if written is not None and now - written < STALLED_AFTER else "idle",
        current_step=last.get("step", 0),
        max_steps=next((total for total in totals if total), None),
        current_phase=one_line(next(phases, ""), 40),
        updated_at=written,
    )


def why_idle(told: RunState) -> str:
    """Why a run without a state counts as idle; empty if it does not."""
    if told.status != "idle":
        return ""
    if told.updated_at is None:
        return "no run_state.json; nothing was written"
    return f"no run_state.json; last written {format_time(told.updated_at)}"
