"""The view of one run: of its state and signs of life, or without a state of its metrics."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from monitor.data.groups import MAX_GROUP, swept_of
from monitor.data.main_metric import loss_key
from monitor.data.tails import LOG_LINES, tail, tail_lines
from monitor.data.values import finite
from monitor.data.views import RunView
from shared.errors import UserError
from shared.json_text import Json
from shared.library.groups import setting_of
from shared.ownership.health import Health, observe
from shared.ownership.heartbeat import BeatWatch
from shared.ownership.standing import told_by_metrics, why_idle
from shared.run.directory import RunDirectory, slug
from shared.run.metrics_columns import as_value
from shared.run.record_lines import parse_lines
from shared.run.records import ENDED_STATUSES, PhaseTransition, RunState
from shared.run.sketch import newest_part
from shared.text import one_line

#: Finds the real status of a run from its record; of runs on another host, that host has.
Judge = Callable[[RunDirectory, RunState, float, BeatWatch], Health]

_LONG_TAIL = 1 << 20
#: A run of an hour with a phase change per step must not make every look at it dear.
MAX_TRANSITIONS = 2_000


def view_of(
    run: RunDirectory,
    state: RunState,
    now: float,
    watch: BeatWatch,
    old: RunView | None = None,
    *,
    judge: Judge = observe,
) -> RunView:
    """The view of a run with that state; `old` itself while its status and reason stay."""
    health = judge(run, state, now, watch)
    status, reason = one_line(health.status, 20), one_line(health.reason, 500)
    if old and (old.status, old.reason, old.alive) == (status, reason, health.alive):
        return old
    lines: tuple[str, ...] = ()
    if state.exit and state.exit.last_log_lines:
        lines = tuple(one_line(x, 500) for x in state.exit.last_log_lines[-LOG_LINES:])
    elif status in ("crashed", "failed"):
        lines = tail_lines(run.log_path)
    model = tuple((one_line(k, 40), one_line(v, 80)) for k, v in list(state.model.items())[:40])
    return RunView(
        run_id=run.run_id,
        path=run.path,
        label=_label(run, state),
        name=one_line(state.run_name or run.run_id, 120),
        status=status,
        reason=reason,
        alive=health.alive,
        step=state.current_step,
        max_steps=state.max_steps,
        loss=state.current_loss,
        best_loss=state.best_loss,
        best_step=state.best_step,
        best_metric=one_line(state.best_metric, 40),
        val_loss=state.val_loss,
        phase=one_line(state.current_phase, 40),
        transitions=tuple(_clean(t) for t in state.phase_transitions[-MAX_TRANSITIONS:]),
        eta_seconds=state.eta_seconds if state.ended_at is None and health.alive else None,
        tokens_per_second=state.tokens_per_second,
        tokens_total=state.tokens_total,
        total_forward=state.total_forward,
        total_backward=state.total_backward,
        started_at=state.started_at,
        updated_at=state.updated_at,
        ended_at=state.ended_at,
        trained_seconds=state.time_trained,
        host=one_line(state.host, 80),
        pid=state.pid,
        attempt=state.attempt,
        device=one_line(state.device, 80),
        git_commit=one_line(state.git_commit or "", 40),
        model=model,
        exit_code=state.exit.code if state.exit else None,
        last_log_lines=lines,
        # Of a run that has ended, the reason of its end tells.
        alarm=why_unreadable(run)
        or ("" if state.status in ENDED_STATUSES else one_line(health.alarm or state.alarm, 500)),
        supervised=state.supervised,
        micro_batch=state.micro_batch,
        group=one_line(state.group, MAX_GROUP),
        swept=swept_of(state.swept) if state.group else (),
        setting=setting_of(state.swept) if state.group else "",
        stage=one_line(state.stage, 40) if state.group else "",
    )


def _label(run: RunDirectory, state: RunState) -> str:
    """Its id; of a run of a sweep its name, which says more than the part of the id made of it."""
    run_id = one_line(run.run_id, 120)
    if not state.group or not state.run_name:
        return run_id
    with contextlib.suppress(UserError):
        made_of = slug(state.run_name)
        if run.run_id.startswith(made_of):
            return one_line(state.run_name + run.run_id[len(made_of) :], 120)
    return run_id


def _clean(transition: PhaseTransition) -> PhaseTransition:
    return PhaseTransition(
        transition.step,
        one_line(transition.from_phase, 40),
        one_line(transition.to, 40),
        transition.time,
    )


def view_without_state(run: RunDirectory, newest: list[Json], now: float) -> RunView:
    """A run of another program, which only writes metrics: judged by its last lines."""
    told = told_by_metrics(run, newest, now)
    attempt = newest[0].get("attempt") if newest else None
    own = [r for r in newest if r.get("attempt") == attempt]
    return RunView(
        run_id=run.run_id,
        path=run.path,
        label=one_line(run.run_id, 120),
        name=one_line(run.run_id, 120),
        status=told.status,
        reason=why_unreadable(run) or why_idle(told),
        alive=False,
        step=told.current_step,
        max_steps=told.max_steps,
        loss=_newest_loss(own),
        phase=told.current_phase,
        updated_at=told.updated_at,
        stateless=True,
    )


def _newest_loss(records: list[Json]) -> float | None:
    """The loss of the newest record that has one; NaN where it is."""
    key = loss_key(dict.fromkeys(key for record in records for key in record))
    if key is None:
        return None
    for record in records:
        named = record.get("nonfinite")
        value = as_value(record.get(key), named.get(key) if isinstance(named, dict) else None)
        if value is not None:
            return value
    return None


def last_val_loss(run: RunDirectory) -> float | None:
    """The newest validation loss near the end of the metrics, without reading all of them."""
    records, _ = parse_lines(tail(newest_part(run.metrics_path), _LONG_TAIL))
    last = records[-1] if records else {}
    values = (finite(r.get("val_loss")) for r in reversed(records) if not _is_abandoned(r, last))
    return next((v for v in values if v is not None), None)


def _is_abandoned(record: Json, last: Json) -> bool:
    """Whether another attempt than that of the last record wrote it, and further on."""
    step, front = finite(record.get("step")), finite(last.get("step"))
    other = record.get("attempt") != last.get("attempt")
    return other and step is not None and front is not None and step > front


def is_closed(run: RunDirectory) -> bool:
    """Whether it is a folder that may not be looked into: it might well be a run."""
    return os.path.isdir(run.path) and not _may(run.path, os.R_OK | os.X_OK)  # noqa: PTH112


def _may(path: Path, mode: int) -> bool:
    """Whether this process, as whoever it acts for, may do that; False for what is not there."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def view_of_closed(run: RunDirectory) -> RunView:
    """A run, perhaps, of which nothing can be known."""
    return RunView(
        run_id=run.run_id,
        path=run.path,
        label=one_line(run.run_id, 120),
        name=one_line(run.run_id, 120),
        status="idle",
        reason="you may not look into its folder; its owner can let you",
        alive=False,
    )


def why_unreadable(run: RunDirectory) -> str:
    """A sentence where there are metrics that may not be read."""
    path = run.metrics_path
    if _may(path, os.F_OK) and not _may(path, os.R_OK):
        return "you may not read its metrics.jsonl; its owner can let you"
    return ""
