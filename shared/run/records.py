"""The records of a run: state, exit, statuses and phases.

Reading never fails: unknown keys are ignored, values of a wrong type become the field's default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.json_text import MAX_INT, Json, is_number, parse_nonfinite, split_nonfinite

SCHEMA_VERSION = 1

ACTIVE_STATUSES = frozenset({"initializing", "running", "paused", "stopping"})
ENDED_STATUSES = frozenset({"completed", "failed", "cancelled", "preempted"})
STATUSES = frozenset({"queued"}) | ACTIVE_STATUSES | ENDED_STATUSES

#: The phases that any run may have, besides stages with names of their own.
PHASES = ("warmup", "full", "predict", "correct")

#: Metrics of a step that describe the record itself; every other numeric key is a series.
RECORD_KEYS = frozenset({"step", "time", "attempt", "phase", "was_predicted", "nonfinite"})


@dataclass(frozen=True)
class PhaseTransition:
    """The run entered phase `to` at `step`."""

    step: int
    from_phase: str
    to: str
    time: float


@dataclass(frozen=True)
class ExitRecord:
    """How a run ended: exit code, reason in words, the last lines of its log."""

    code: int
    reason: str
    last_log_lines: tuple[str, ...] = ()
    final: bool = False  # a restart would end the same way, so no supervisor tries


@dataclass(frozen=True)
class RunState:
    """`run_state.json`. Times are Unix seconds, `tokens_per_second` is of the last step.

    `alarm` is a sentence while something is wrong and training continues (a full disk).
    `trained_seconds` are those in which a trainer worked on the run, in all attempts together.
    `supervised` lets a daemon restart the run; with `paused` it waits after the restart.
    `ranks` processes train together; `pid` is the one that writes, and `launcher_pid` the one that
    started them all. `micro_batch` is the size that fits in memory. After `patience` evaluations
    without a lower validation loss the run stops.
    `val_loss` is the newest validation loss. A run of a sweep has its `group`, of which at most
    `group_limit` train at once, and in `swept` the settings in which it may differ from the others.
    The runs of a pipeline have its name as their `group`; `stage` is the one that a run is of, and
    `pipeline` for the run of the pipeline itself.
    """

    run_id: str = ""
    run_name: str = ""
    schema_version: int = SCHEMA_VERSION
    status: str = "queued"
    host: str = ""
    pid: int = 0
    attempt: int = 0
    current_step: int = 0
    max_steps: int | None = None
    current_loss: float | None = None
    current_phase: str = ""
    best_loss: float | None = None
    best_step: int | None = None
    best_metric: str = ""
    val_loss: float | None = None
    total_forward: int = 0
    total_backward: int = 0
    tokens_total: int = 0
    tokens_per_second: float | None = None
    mfu: float | None = None
    started_at: float | None = None
    updated_at: float | None = None
    ended_at: float | None = None
    trained_seconds: float | None = None
    eta_seconds: float | None = None
    exit: ExitRecord | None = None
    phase_transitions: tuple[PhaseTransition, ...] = ()
    latest_checkpoint: str | None = None
    best_checkpoint: str | None = None
    model: Json = field(default_factory=dict)
    device: str = ""
    git_commit: str | None = None
    supervised: bool = False
    paused: bool = False
    alarm: str = ""
    micro_batch: int | None = None
    patience: int | None = None
    evaluations_without_improvement: int = 0
    ranks: int = 1
    launcher_pid: int | None = None
    hub_repo: str | None = None
    group: str = ""
    group_limit: int | None = None
    stage: str = ""
    swept: Json = field(default_factory=dict)
    nonfinite: Json = field(default_factory=dict)

    @property
    def time_trained(self) -> float | None:
        """Seconds of training; of an older state, those from start to end of its one attempt."""
        if self.trained_seconds is not None or self.attempt > 1:
            return self.trained_seconds
        if self.started_at is None or self.ended_at is None:
            return None
        return max(0.0, self.ended_at - self.started_at)

    def to_json(self) -> Json:
        """The object written to `run_state.json`; non-finite numbers are named in `nonfinite`."""
        value = dataclasses.asdict(self)
        del value["nonfinite"]  # the values may have changed since it was read
        value["phase_transitions"] = [
            {"step": t.step, "from": t.from_phase, "to": t.to, "time": t.time}
            for t in self.phase_transitions
        ]
        return split_nonfinite(value)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunState:
        """Read any object. Fields that do not fit keep their defaults."""
        known: Json = {}
        for name, (kind, optional) in _STATE_KINDS.items():
            raw = value.get(name)
            if raw is None and not (optional and name in value):
                continue
            known[name] = None if raw is None else _coerce(raw, kind, _STATE_DEFAULTS[name])
        nonfinite = known.pop("nonfinite", None)
        if isinstance(nonfinite, dict):
            for name in ("current_loss", "best_loss", "val_loss"):
                if known.get(name) is None and isinstance(nonfinite.get(name), str):
                    known[name] = parse_nonfinite(nonfinite[name])
        known["exit"] = _exit_record(value.get("exit"))
        known["phase_transitions"] = _transitions(value.get("phase_transitions"))
        return cls(**known)


def _coerce(raw: Any, kind: type, default: object) -> Any:
    if kind not in (float, int):
        return raw if isinstance(raw, kind) else default
    if not is_number(raw):
        return default
    try:
        number = kind(raw)
    except (ValueError, OverflowError):
        return default
    # A larger integer could be read but not written again.
    return default if kind is int and abs(number) > MAX_INT else number


_SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "Json": dict}
_STATE_KINDS: dict[str, tuple[type, bool]] = {}
for _field in dataclasses.fields(RunState):
    _base, _, _none = str(_field.type).partition(" | ")
    if _base in _SCALARS:
        _STATE_KINDS[_field.name] = (_SCALARS[_base], bool(_none))
_STATE_DEFAULTS: Json = {name: getattr(RunState(), name) for name in _STATE_KINDS}


def _exit_record(raw: object) -> ExitRecord | None:
    if not isinstance(raw, dict):
        return None
    lines = raw.get("last_log_lines")
    return ExitRecord(
        code=_coerce(raw.get("code"), int, 1),
        reason=_coerce(raw.get("reason"), str, ""),
        last_log_lines=tuple(str(x) for x in lines) if isinstance(lines, list) else (),
        final=_coerce(raw.get("final"), bool, default=False),
    )


def _transitions(raw: object) -> tuple[PhaseTransition, ...]:
    items = raw if isinstance(raw, list) else []
    return tuple(
        PhaseTransition(
            step=_coerce(x.get("step"), int, 0),
            from_phase=_coerce(x.get("from"), str, ""),
            to=_coerce(x.get("to"), str, ""),
            time=_coerce(x.get("time"), float, 0.0),
        )
        for x in items
        if isinstance(x, dict)
    )
