"""What `trainer profile` reports: the stages of a step and its costliest operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from trainer.loop.hooks import Stage
from trainer.profiling.stages import STAGES
from trainer.profiling.trace import TraceSummary


@dataclass(frozen=True)
class StageShare:
    """A stage of the mean step: milliseconds of the host without the profiler, of the GPU with it
    (None on a CPU), and its share of the step, by the GPU's time where there is one."""

    name: str
    host_ms: float
    device_ms: float | None
    share: float


@dataclass(frozen=True)
class OperatorShare:
    """An operator or kernel of the mean step under the profiler, and its share of it."""

    name: str
    calls: float
    ms: float
    share: float


@dataclass(frozen=True)
class Profile:
    """The mean step of a training.

    `step_ms` is without the profiler, `profiled_step_ms` with it. `device_busy` is the share of the
    time in which the GPU computed, `mfu` its model FLOPs utilization; both are None on a CPU.
    """

    model: str
    device: str
    attention: str
    steps: int
    tokens_per_step: int
    step_ms: float
    profiled_step_ms: float
    tokens_per_second: float
    mfu: float | None
    device_busy: float | None
    peak_memory_bytes: int | None
    stages: tuple[StageShare, ...]
    operators: tuple[OperatorShare, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything."""
        return asdict(self)


def stage_shares(
    host: Mapping[Stage, float], trace: TraceSummary, steps: int
) -> tuple[StageShare, ...]:
    """The stages of `steps` steps. `host` are seconds without the profiler.

    Where a GPU was traced, the time in which it did nothing is a further row, `idle`.
    """
    device = trace.device_stages
    if device is None or trace.busy is None:
        total = sum(host.values()) or 1.0
        return tuple(
            StageShare(name, _ms(host.get(name, 0.0), steps), None, host.get(name, 0.0) / total)
            for name in STAGES
        )
    idle = max(0.0, trace.window - trace.busy)
    total = sum(device.values()) + idle or 1.0
    rows = [
        StageShare(
            name,
            _ms(host.get(name, 0.0), steps),
            _ms(device.get(name, 0.0), steps),
            device.get(name, 0.0) / total,
        )
        for name in STAGES
    ]
    return (*rows, StageShare("idle", 0.0, _ms(idle, steps), idle / total))


def operator_shares(trace: TraceSummary, steps: int, most: int) -> tuple[OperatorShare, ...]:
    """The `most` costliest operators of `steps` steps, and a row for all others."""
    window = trace.window or 1.0
    rows = [
        OperatorShare(
            operator.name,
            operator.calls / steps,
            _ms(operator.seconds, steps),
            operator.seconds / window,
        )
        for operator in trace.operators
    ]
    shown, rest = rows[:most], rows[most:]
    if rest:
        shown.append(
            OperatorShare(
                f"{len(rest)} more",
                sum(row.calls for row in rest),
                sum(row.ms for row in rest),
                sum(row.share for row in rest),
            )
        )
    return tuple(shown)


def _ms(seconds: float, steps: int) -> float:
    return 1000 * seconds / steps
