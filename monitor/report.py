"""`--json`: everything the screen would show, for scripts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from monitor.data.scanner import last_val_loss
from monitor.data.views import RunDetail, RunView, Snapshot
from shared.catalogue import CheckpointInfo, list_checkpoints
from shared.metrics_log import Series
from shared.run_directory import RunDirectory
from shared.text import one_line

REPORT_VERSION = 1


def report(snapshot: Snapshot) -> dict[str, Any]:
    """`snapshot` as plain JSON values: seconds, bytes, tokens; non-finite numbers by name."""
    value: dict[str, Any] = {
        "report_version": REPORT_VERSION,
        "runs_dir": snapshot.runs_dir,
        "time": snapshot.taken_at,
        "runs": [
            run_report(
                view,
                snapshot.taken_at,
                snapshot.detail
                if snapshot.detail and snapshot.detail.run_id == view.run_id
                else None,
            )
            for view in snapshot.runs
        ],
    }
    if snapshot.problem:
        value["problem"] = snapshot.problem
    return value


def run_report(view: RunView, now: float, detail: RunDetail | None = None) -> dict[str, Any]:
    """One run; with `detail` also the whole of its metrics, its events and its log."""
    fraction = view.fraction
    value: dict[str, Any] = {
        "run_id": view.label,
        "name": view.name,
        "status": view.status,
        "reason": view.reason,
        "alive": view.alive,
        "alarm": view.alarm,
        "supervised": view.supervised,
        "step": view.step,
        "max_steps": view.max_steps,
        "percent": None if fraction is None else round(100 * fraction, 2),
        "eta_seconds": view.eta_seconds,
        "loss": number(view.loss),
        "best": number(view.best_loss),
        "best_step": view.best_step,
        "best_metric": view.best_metric,
        "phase": view.phase,
        "transitions": [
            {"step": t.step, "from": t.from_phase, "to": t.to} for t in view.transitions
        ],
        "tokens_per_second": number(view.tokens_per_second),
        "tokens_total": view.tokens_total,
        "total_forward": view.total_forward,
        "total_backward": view.total_backward,
        "started_at": view.started_at,
        "updated_at": view.updated_at,
        "ended_at": view.ended_at,
        "age_seconds": _age(now, view.updated_at),
        "host": view.host,
        "pid": view.pid,
        "attempt": view.attempt,
        "micro_batch": view.micro_batch,
        "device": view.device,
        "git_commit": view.git_commit,
        "model": dict(view.model),
        "exit_code": view.exit_code,
        "last_log_lines": list(view.last_log_lines),
    }
    return value | (_outline_report(view) if detail is None else _detail_report(detail))


def _age(now: float, moment: float | None) -> float | None:
    """Seconds since `moment`; a clock that was set back makes no negative age."""
    return None if moment is None else max(0.0, round(now - moment, 1))


def _outline_report(view: RunView) -> dict[str, Any]:
    """What can be told of a run without reading all of its metrics."""
    run = RunDirectory(view.path)
    return {
        "val_loss": last_val_loss(run),
        "checkpoints": [checkpoint_report(c) for c in list_checkpoints(run.checkpoints)],
    }


def _detail_report(detail: RunDetail) -> dict[str, Any]:
    return {
        "curve": series_report(detail.loss),
        "val_curve": series_report(detail.val_loss),
        "val_loss": number(float(detail.val_loss.values[-1])) if len(detail.val_loss) else None,
        "newest": {k: number(v) for k, v in detail.newest.items()},
        "bad_lines": detail.bad_lines,
        "checkpoints": [checkpoint_report(c) for c in detail.checkpoints],
        "events": [
            {"time": e.time, "step": e.step, "event": e.kind, "text": e.text} for e in detail.events
        ],
        "log_lines": list(detail.log_lines),
    }


def series_report(series: Series) -> dict[str, Any]:
    """The extremes of a series, and how many values are not finite."""
    finite = np.isfinite(series.values)
    value: dict[str, Any] = {
        "metric": one_line(series.key),
        "points": len(series),
        "nonfinite": len(series) - int(finite.sum()),
    }
    if len(series):
        value["first_step"], value["last_step"] = int(series.steps[0]), int(series.steps[-1])
        value["last"] = number(float(series.values[-1]))
    if finite.any():
        value["min"] = float(series.values[finite].min())
        value["max"] = float(series.values[finite].max())
    return value


def checkpoint_report(info: CheckpointInfo) -> dict[str, Any]:
    """One checkpoint."""
    return {
        "name": info.name,
        "step": info.step,
        "bytes": info.bytes,
        "created_at": info.created_at,
        "whole": info.whole,
        "loss": number(info.loss),
        "val_loss": number(info.val_loss),
        "latest": info.is_latest,
        "best": info.is_best,
    }


def number(value: float | None) -> float | str | None:
    """A float as JSON can hold it: NaN and the infinities become their names."""
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
