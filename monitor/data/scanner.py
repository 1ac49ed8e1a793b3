"""Looking over all runs of a folder: their states and signs of life, little more."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from monitor.data.values import finite, whole
from monitor.data.views import RunView
from shared.files import open_file
from shared.health import STALLED_AFTER, observe
from shared.heartbeat import BeatWatch
from shared.metrics_log import parse_lines
from shared.records import ACTIVE_STATUSES, ENDED_STATUSES, PhaseTransition, RunState
from shared.run_directory import RunDirectory, discover_runs
from shared.text import format_duration, many_lines, one_line

_TAIL = 16 << 10
_LONG_TAIL = 1 << 20
_LOG_LINES = 12
#: A run of an hour with a phase change per step must not make every look at it dear.
MAX_TRANSITIONS = 2_000

Signature = tuple[int, int, int]


@dataclass
class _Known:
    """What is remembered of one run between looks."""

    signature: Signature | None
    state: RunState
    view: RunView
    watch: BeatWatch = field(default_factory=BeatWatch)


class RunScanner:
    """Looks at every run of `runs_dir`. An ended run whose state did not change costs one stat."""

    def __init__(self, runs_dir: Path, clock: Callable[[], float]) -> None:
        self._runs_dir = runs_dir
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def scan(self) -> tuple[RunView, ...]:
        """Every run: those at work first, then the newest first.

        Raises OSError when the folder cannot be read.
        """
        runs = discover_runs(self._runs_dir)
        now = self._clock()
        self._known = {run.run_id: self._look(run, now) for run in runs}
        return tuple(sorted((k.view for k in self._known.values()), key=_rank))

    def _look(self, run: RunDirectory, now: float) -> _Known:
        known = self._known.get(run.run_id)
        watch = known.watch if known else BeatWatch()
        signature = file_signature(run.state_path)
        if known and signature == known.signature and signature is not None:
            if known.state.status not in ACTIVE_STATUSES:
                return known
            view = _view(run, known.state, now, watch, known.view)
            return _Known(signature, known.state, view, watch)
        state = run.read_state() if signature else None
        if state is not None:
            return _Known(signature, state, _view(run, state, now, watch), watch)
        if signature and known:
            # A writer that does not replace its file atomically was caught in the middle.
            return _Known(None, known.state, known.view, watch)
        return _Known(None, RunState(), _view_without_state(run, now))


def file_signature(path: Path) -> Signature | None:
    """What changes whenever the file does; None when there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _rank(view: RunView) -> tuple[bool, float, str]:
    at_work = view.alive or view.status in ACTIVE_STATUSES
    return not at_work, -(view.started_at or 0.0), view.run_id


def _view(
    run: RunDirectory, state: RunState, now: float, watch: BeatWatch, old: RunView | None = None
) -> RunView:
    health = observe(run, state, now, watch)
    status, reason = one_line(health.status, 20), one_line(health.reason, 500)
    if old and (old.status, old.reason, old.alive) == (status, reason, health.alive):
        return old
    lines: tuple[str, ...] = ()
    if state.exit and state.exit.last_log_lines:
        lines = tuple(one_line(x, 500) for x in state.exit.last_log_lines[-_LOG_LINES:])
    elif status in ("crashed", "failed"):
        lines = tail_lines(run.log_path)
    model = tuple((one_line(k, 40), one_line(v, 80)) for k, v in list(state.model.items())[:40])
    return RunView(
        run_id=run.run_id,
        path=run.path,
        label=one_line(run.run_id, 120),
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
        host=one_line(state.host, 80),
        pid=state.pid,
        attempt=state.attempt,
        device=one_line(state.device, 80),
        git_commit=one_line(state.git_commit or "", 40),
        model=model,
        exit_code=state.exit.code if state.exit else None,
        last_log_lines=lines,
        # Of a run that has ended, the reason of its end tells.
        alarm="" if state.status in ENDED_STATUSES else one_line(state.alarm, 500),
        supervised=state.supervised,
        micro_batch=state.micro_batch,
    )


def _clean(transition: PhaseTransition) -> PhaseTransition:
    return PhaseTransition(
        transition.step,
        one_line(transition.from_phase, 40),
        one_line(transition.to, 40),
        transition.time,
    )


def _view_without_state(run: RunDirectory, now: float) -> RunView:
    """A run of another program, which only writes metrics: judged by its last lines."""
    records, _ = parse_lines(_tail(run.metrics_path))
    last = records[-1] if records else {}
    signature = file_signature(run.metrics_path)
    written = signature[0] / 1e9 if signature else None
    silent = None if written is None else max(0.0, now - written)
    at_work = silent is not None and silent < STALLED_AFTER
    return RunView(
        run_id=run.run_id,
        path=run.path,
        label=one_line(run.run_id, 120),
        name=one_line(run.run_id, 120),
        status="running" if at_work else "idle",
        reason="" if at_work else f"no run_state.json; {_minutes(silent)} without a record",
        alive=False,
        step=whole(last.get("step")) or 0,
        loss=finite(last.get("loss")),
        phase=one_line(last.get("phase") or "", 40),
        updated_at=written,
    )


def last_val_loss(run: RunDirectory) -> float | None:
    """The newest validation loss near the end of the metrics, without reading all of them."""
    records, _ = parse_lines(_tail(run.metrics_path, _LONG_TAIL))
    values = (finite(r.get("val_loss")) for r in reversed(records))
    return next((v for v in values if v is not None), None)


def _minutes(seconds: float | None) -> str:
    """Whole minutes only, so that the sentence does not change with every look."""
    if seconds is None:
        return "-"
    return format_duration(seconds // 60 * 60) if seconds >= 60 else "less than 1m"


def _tail(path: Path, size: int = _TAIL) -> bytes:
    try:
        with open_file(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)
    except OSError:
        return b""


def tail_lines(path: Path, limit: int = _LOG_LINES) -> tuple[str, ...]:
    """The last lines of a text file, safe to show. A progress bar's `\\r` counts as a new line."""
    text = _tail(path).decode("utf-8", "replace").replace("\r", "\n")
    lines = [one_line(x, 500) for x in many_lines(text).split("\n")]
    return tuple([x for x in lines if x.strip()][-limit:])
