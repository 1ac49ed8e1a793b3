"""Everything known about a run as one page of text, like the monitor's details."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

from shared.checkpoints.catalogue import CheckpointInfo, list_checkpoints
from shared.control.daemons import restarted_by, watching
from shared.json_text import is_number
from shared.library.labels import Labels, read_labels
from shared.output_file import check_output, write_output
from shared.ownership.health import Health
from shared.ownership.standing import standing
from shared.run.directory import RunDirectory
from shared.run.event_text import event_text
from shared.run.log import last_log_lines
from shared.run.metrics_log import MetricsTable
from shared.run.record_lines import read_records
from shared.run.records import RunState
from shared.text import (
    format_bytes,
    format_count,
    format_duration,
    format_time,
    one_line,
)

MAX_EVENTS = 200
MAX_CONFIG_LINES = 400
_MAX_CONFIG = 64 << 10
_TAIL = 1 << 20
_LOG_LINES = 20
_LABEL = 15

Pairs = list[tuple[str, str]]


def export_text(run: RunDirectory, path: Path, *, force: bool = False) -> int:
    """Write the page of `run` to `path`; returns the bytes. See `write_output`."""
    check_output(path, force=force)
    page = "\n".join(run_page(run)) + "\n"
    return write_output(path, [page.encode("utf-8", "replace")], force=force)


def run_page(run: RunDirectory, now: float | None = None) -> list[str]:
    """The lines of the page, safe to show. Unknown facts are left out."""
    now = time.time() if now is None else now
    state, health = standing(run, now)
    labels = read_labels(run)
    title = labels.name or one_line(state.run_name or run.run_id, 100)
    lines = [title, "=" * max(8, len(title)), ""]
    lines += _table(_facts(run, state, health, labels, now))
    if labels.note:
        lines += ["", "note", *(f"  {line}" for line in labels.note.split("\n"))]
    for heading, body in (
        ("newest values", _table(_newest(run))),
        ("phases", _phases(state)),
        ("checkpoints", _checkpoints(run)),
        ("what happened, newest first", _events(run)),
        ("last log lines", _log(run, state)),
        ("config.yaml", _config(run)),
    ):
        if body:
            lines += ["", heading, *(f"  {line}" for line in body)]
    return [line.rstrip() for line in lines]


def _table(pairs: Pairs) -> list[str]:
    width = max([_LABEL, *(len(key) + 2 for key, value in pairs if value)])
    return [f"{key:<{width}}{value}" for key, value in pairs if value]


def _facts(run: RunDirectory, state: RunState, health: Health, labels: Labels, now: float) -> Pairs:
    model = {one_line(k, 40): one_line(v, 80) for k, v in list(state.model.items())[:40]}
    name, parameters = model.pop("name", ""), state.model.get("parameters")
    trained = state.model.get("trained")
    for key in ("parameters", "trained"):
        model.pop(key, None)
    watched = state.supervised and bool(watching(run.path.parent))
    shape = "  ".join(f"{key} {value}" for key, value in model.items())
    code = "" if state.exit is None else f" (exit code {state.exit.code})"
    return [
        ("run", one_line(run.run_id)),
        ("status", one_line(health.status, 20) + (code if health.status != "completed" else "")),
        ("reason", one_line(health.reason, 500) if health.status != "completed" else ""),
        ("alarm", health.alarm),
        ("tags", ", ".join(labels.tags)),
        ("archived", "yes" if labels.archived else ""),
        ("model", "  ".join(x for x in (name, shape) if x)),
        ("parameters", _parameters(parameters)),
        ("trained", _parameters(trained)),
        ("progress", _progress(state)),
        ("time left", _known(format_duration(state.eta_seconds)) if health.alive else ""),
        ("loss", _number(state.current_loss)),
        ("best", _best(state)),
        ("phase", one_line(state.current_phase, 40)),
        ("device", one_line(state.device, 80)),
        ("process", f"{state.pid} on {one_line(state.host, 80)}" if state.pid else ""),
        ("attempt", str(state.attempt) if state.attempt else ""),
        (
            "restarted by",
            restarted_by(supervised=state.supervised, status=state.status, watched=watched),
        ),
        ("micro-batch", f"{state.micro_batch} (memory)" if state.micro_batch else ""),
        ("started", _known(format_time(state.started_at))),
        ("ended", _known(format_time(state.ended_at))),
        ("trained for", _known(format_duration(state.time_trained))),
        ("updated", _known(format_time(state.updated_at)) if health.alive else ""),
        ("tokens", format_count(state.tokens_total) if state.tokens_total else ""),
        ("speed", _speed(state.tokens_per_second)),
        ("passes", _passes(state)),
        ("uploaded to", one_line(state.hub_repo or "")),
        ("commit", one_line(state.git_commit or "", 40)),
        ("page made", format_time(now)),
    ]


def _known(text: str) -> str:
    return "" if text == "-" else text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _parameters(value: object) -> str:
    if is_number(value) and 0 <= value < 1e18:  # type: ignore[operator]
        return f"{format_count(value)} ({value:,.0f})"  # type: ignore[arg-type]
    return "" if value is None else one_line(value, 80)


def _progress(state: RunState) -> str:
    if not state.max_steps or state.max_steps < 0:
        return f"step {state.current_step:,}"
    share = min(1.0, max(0.0, state.current_step / state.max_steps))
    return f"step {state.current_step:,} of {state.max_steps:,} ({share:.1%})"


def _best(state: RunState) -> str:
    if state.best_loss is None:
        return ""
    metric = one_line(state.best_metric, 40).replace("_", " ")
    step = "" if state.best_step is None else f" at step {state.best_step:,}"
    return f"{state.best_loss:.5g}{f' {metric}' if metric else ''}{step}"


def _speed(value: float | None) -> str:
    return f"{format_count(value)} tokens/s" if value else ""


def _passes(state: RunState) -> str:
    forward, backward = state.total_forward, state.total_backward
    if not (forward or backward):
        return ""
    saved = f" ({(forward - backward) / forward:.0%} saved)" if forward > backward else ""
    return f"{forward:,} forward, {backward:,} back{saved}"


def _newest(run: RunDirectory) -> Pairs:
    """The last value of each series near the end of the metrics."""
    table = MetricsTable()
    table.add_lines(_tail(run.metrics_path))
    series = [table.series(key) for key in table.keys()[:200]]
    return [(one_line(s.key, 60), f"{s.values[-1]:.5g} at step {s.steps[-1]:,}") for s in series]


def _tail(path: Path) -> bytes:
    """The last complete lines of a file; the first of them may be torn."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            data = file.read(_TAIL)
    except OSError:
        return b""
    return data[: data.rfind(b"\n") + 1]


def _phases(state: RunState) -> list[str]:
    return [
        f"step {t.step:>10,}  {one_line(t.from_phase, 40) or 'start'} → {one_line(t.to, 40)}"
        for t in state.phase_transitions[-MAX_EVENTS:]
    ]


def _checkpoints(run: RunDirectory) -> list[str]:
    lines = [_checkpoint_line(info) for info in list_checkpoints(run.checkpoints)]
    if run.checkpoints.is_symlink():
        lines.insert(0, f"in {one_line(run.checkpoints.resolve())}")
    return lines


def _checkpoint_line(info: CheckpointInfo) -> str:
    marks = (
        ("latest", info.is_latest),
        ("best", info.is_best),
        ("before growth", info.ends_stage),
        ("packed", info.packed),
        ("damaged", not info.whole),
    )
    losses = [
        f"{words} {value:.4g}"
        for words, value in (("loss", info.loss), ("val loss", info.val_loss))
        if value is not None
    ]
    made = format_time(info.created_at) if info.created_at else "-"
    words = [*losses, *(name for name, on in marks if on)]
    return f"{info.name:<14}{format_bytes(info.bytes):>11}  {made:<19}  {', '.join(words)}"


def _events(run: RunDirectory) -> list[str]:
    lines: list[str] = []
    for record in read_records(run.events_path, limit=MAX_EVENTS):
        moment, step = record.get("time"), record.get("step")
        when = format_time(float(moment)) if _small(moment) else "-"  # type: ignore[arg-type]
        place = f"{step:,.0f}" if _small(step) else ""
        kind = one_line(record.get("event", ""), 40).replace("_", " ")
        lines.append(f"{when:<19}  {place:>10}  {kind:<18} {event_text(record)}")
    return lines[::-1]


def _small(value: object) -> bool:
    return is_number(value) and -1e15 < value < 1e15  # type: ignore[operator]


def _log(run: RunDirectory, state: RunState) -> Iterable[str]:
    if state.exit and state.exit.last_log_lines:
        return [one_line(line, 500) for line in state.exit.last_log_lines[-_LOG_LINES:]]
    return last_log_lines(run, _LOG_LINES) or []


def _config(run: RunDirectory) -> list[str]:
    try:
        with run.config_path.open("rb") as file:
            text = file.read(_MAX_CONFIG).decode("utf-8", "replace")
    except OSError:
        return []
    return [one_line(x.expandtabs(4), 300) for x in text.splitlines()[:MAX_CONFIG_LINES]]
