"""`--json`: everything the screen would show, for scripts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from monitor.data.machine import MachineView
from monitor.data.run_files import protected
from monitor.data.run_view import last_val_loss
from monitor.data.views import AnswerView, EventView, RunDetail, RunView, Snapshot
from monitor.dynamics import MAX_WINDOW, MIN_WINDOW, WINDOW_SHARE, dynamics
from monitor.reinforcement import Course, has_rewards, reinforcement
from shared.checkpoints.catalogue import CheckpointInfo, list_checkpoints
from shared.run.directory import RunDirectory
from shared.run.metrics_log import TIME
from shared.run.metrics_rows import Floats, Series
from shared.text import one_line

REPORT_VERSION = 1


def report(snapshot: Snapshot) -> dict[str, Any]:
    """`snapshot` as plain JSON values: seconds, bytes, tokens; non-finite numbers by name."""
    now = snapshot.taken_at
    value: dict[str, Any] = {
        "report_version": REPORT_VERSION,
        "runs_dir": snapshot.runs_dir,
        "time": now,
        "machine": machine_report(snapshot.machine) if snapshot.machine else None,
        "runs": [
            run_report(view, now, _detail_of(snapshot, view.run_id)) for view in snapshot.runs
        ],
    }
    if snapshot.problem:
        value["problem"] = snapshot.problem
    if snapshot.notice:
        value["notice"] = snapshot.notice
    return value


def _detail_of(snapshot: Snapshot, run_id: str) -> RunDetail | None:
    if snapshot.detail is not None and snapshot.detail.run_id == run_id:
        return snapshot.detail
    return snapshot.details.get(run_id)


def machine_report(machine: MachineView) -> dict[str, Any]:
    """This host: shares 0 to 1, bytes, watts, degrees Celsius; null means not available."""
    return dataclasses.asdict(machine)


def run_report(view: RunView, now: float, detail: RunDetail | None = None) -> dict[str, Any]:
    """One run; with `detail` also the whole of its metrics, its events and its log."""
    value = _view_report(view, now)
    return value | (_outline_report(view, now) if detail is None else _detail_report(detail, now))


def _view_report(view: RunView, now: float) -> dict[str, Any]:
    fraction = view.fraction
    return {
        "run_id": one_line(view.run_id),
        "name": view.name,
        "label": view.label,
        "tags": list(view.tags),
        "note": view.note_text,
        "archived": view.archived,
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
        "val_loss": number(view.val_loss),
        "group": view.group,
        "stage": view.stage,
        "swept": dict(view.swept),
        "is_best_of_group": view.is_best,
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
        "trained_seconds": view.trained_seconds,
        "age_seconds": _age(now, view.updated_at),
        "host": view.host,
        "format": view.foreign.format if view.foreign else None,
        "pid": view.pid,
        "attempt": view.attempt,
        "micro_batch": view.micro_batch,
        "device": view.device,
        "git_commit": view.git_commit,
        "model": dict(view.model),
        "exit_code": view.exit_code,
        "last_log_lines": list(view.last_log_lines),
        "sparkline": [number(loss) for loss in view.sparkline],
    }


def change_report(view: RunView, now: float) -> dict[str, Any]:
    """What `run_report` tells of a run without looking at its files."""
    return _view_report(view, now)


def event_report(event: EventView) -> dict[str, Any]:
    """One line of what happened."""
    return {"time": event.time, "step": event.step, "event": event.kind, "text": event.text}


def points_report(
    detail: RunDetail, known: dict[str, tuple[int, int]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The steps that are new since the last call, in order, each with the values of all series.

    `known` holds the attempt's last step and the number of points told, by series. A series that
    went back, as after a resume, is told from there on.
    """
    found: dict[int, dict[str, Any]] = {}
    for key, series in detail.series.items():
        last, count = known.get(key, (-1, 0))
        start = int(np.searchsorted(series.steps, last, "right"))
        if (len(series) and int(series.steps[-1]) < last) or len(series) < count:
            start = max(0, len(series) - 1)
        steps, values = series.steps[start:].tolist(), series.values[start:].tolist()
        for step, value in zip(steps, values, strict=True):
            found.setdefault(step, {})[one_line(key, 60)] = number(value)
        if len(series):
            known[key] = int(series.steps[-1]), len(series)
    yield from sorted(found.items())


def _age(now: float, moment: float | None) -> float | None:
    """Seconds since `moment`; a clock that was set back makes no negative age."""
    return None if moment is None else max(0.0, round(now - moment, 1))


def _outline_report(view: RunView, now: float) -> dict[str, Any]:
    """The report on a run without reading all of its metrics."""
    if view.foreign is not None:
        return {"checkpoints": []}
    run = RunDirectory(view.path)
    return {
        "val_loss": last_val_loss(run),
        "checkpoints": checkpoints_report(tuple(list_checkpoints(run.checkpoints)), {}, now),
    }


def _detail_report(detail: RunDetail, now: float) -> dict[str, Any]:
    return {
        "curve": series_report(detail.loss),
        "val_curve": series_report(detail.val_loss),
        "val_loss": number(float(detail.val_loss.values[-1])) if len(detail.val_loss) else None,
        "newest": {k: number(v) for k, v in detail.newest.items()},
        "series": {
            one_line(key, 60): series_report(series)
            for key, series in detail.series.items()
            if key != TIME
        },
        "dynamics": dynamics_report(detail),
        "reinforcement": reinforcement_report(detail) if has_rewards(detail) else None,
        "approximate": detail.approximate,
        "bad_lines": detail.bad_lines,
        "unread": detail.unread,
        "read_as": detail.read_as,
        "given_up_after": detail.given_up_after,
        "checkpoints": checkpoints_report(detail.checkpoints, detail.uploads, now),
        "events": [event_report(event) for event in detail.events],
        "samples": [{"step": s.step, "time": s.time, "text": s.text} for s in detail.samples],
        "stages": [dataclasses.asdict(stage) for stage in detail.stages],
        "suites": {name: list(lines) for name, lines in detail.suites.items()},
        "answers": [answer_report(answer) for answer in detail.answers],
        "log_lines": list(detail.log_lines),
        "config": dict(detail.config),
    }


def dynamics_report(detail: RunDetail) -> dict[str, Any]:
    """The dynamics of the last window; slopes are per 1000 steps."""
    value = dataclasses.asdict(dynamics(detail))
    value["spikes"] = [{"step": step, "loss": number(loss)} for step, loss in value["spikes"]]
    return {k: number(v) if isinstance(v, float) else v for k, v in value.items()}


def reinforcement_report(detail: RunDetail) -> dict[str, Any]:
    """What the page of rewards shows: means of the first and the last iterations."""
    found = reinforcement(detail)
    return {
        "iteration": found.iteration,
        "figures": {
            row.key: {
                "training": _course_report(row.training),
                "held_out": _course_report(row.held_out),
            }
            for row in found.rows
        },
        "seconds": None if found.time is None else dataclasses.asdict(found.time),
        "advice": [event_report(event) for event in found.advice],
    }


def _course_report(course: Course | None) -> dict[str, Any] | None:
    return None if course is None else {"first": course.first, "now": course.now}


def answer_report(answer: AnswerView) -> dict[str, Any]:
    """An answer to a task; `given` characters of it were part of what the model was shown."""
    return {**dataclasses.asdict(answer), "parts": dict(answer.parts)}


def series_report(series: Series) -> dict[str, Any]:
    """The newest value and the extremes of a series, of all of it and of its last window."""
    value = {
        "metric": one_line(series.key, 60),
        "points": len(series),
        "nonfinite": len(series) - int(np.isfinite(series.values).sum()),
        **_extremes(series.values),
    }
    if len(series):
        value["first_step"], value["last_step"] = int(series.steps[0]), int(series.steps[-1])
        value["last"] = number(float(series.values[-1]))
        count = min(len(series), MAX_WINDOW, max(MIN_WINDOW, int(len(series) * WINDOW_SHARE)))
        value["window"] = {
            "points": count,
            "first_step": int(series.steps[-count]),
            **_extremes(series.values[-count:]),
        }
    return value


def _extremes(values: Floats) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {}
    least, greatest = float(finite.min()), float(finite.max())
    # Of huge values the sum overflows; the mean of their shares does not.
    scale = max(abs(least), abs(greatest), 1.0)
    mean = float((finite / scale).mean()) * scale
    return {"min": least, "max": greatest, "mean": mean}


def checkpoints_report(
    checkpoints: tuple[CheckpointInfo, ...], uploads: Mapping[str, str], now: float
) -> list[dict[str, Any]]:
    """Every checkpoint of a run."""
    kept = protected(checkpoints)
    return [
        {
            **checkpoint_report(info),
            "age_seconds": _age(now, info.created_at or None),
            "protected": kept.get(info.name),
            "uploaded": uploads.get(info.name),
        }
        for info in checkpoints
    ]


def checkpoint_report(info: CheckpointInfo) -> dict[str, Any]:
    """One checkpoint, by itself."""
    return {
        "name": info.name,
        "step": info.step,
        "bytes": info.bytes,
        "created_at": info.created_at,
        "whole": info.whole,
        "packed": info.packed,
        "loss": number(info.loss),
        "val_loss": number(info.val_loss),
        "latest": info.is_latest,
        "best": info.is_best,
        "stage_end": info.ends_stage,
    }


def number(value: float | None) -> float | str | None:
    """A float as JSON can hold it: NaN and the infinities become their names."""
    if value is None or math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
