"""What a trace of torch's profiler says: time by operator, by kernel, and of kernels by stage.

A trace is the JSON that `torch.profiler.profile.export_chrome_trace` writes: events with a category
(`cat`), a start (`ts`) and a duration (`dur`) in microseconds. A kernel belongs to the stage in
which the host launched it, whichever thread did: launch and kernel have the same `correlation`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.profiling.stages import PREFIX

Event = Mapping[str, Any]

_LAUNCHES = frozenset({"cuda_runtime", "cuda_driver"})  # of HIP too
_ON_DEVICE = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
_US = 1e-6


@dataclass(frozen=True)
class Operator:
    """An operator of the host (its own time, without the operators it calls) or a kernel of a GPU,
    over the whole trace."""

    name: str
    calls: int
    seconds: float


@dataclass(frozen=True)
class TraceSummary:
    """Times in seconds over the whole trace.

    `window` is from the first stage's start to the last one's end. `device_stages` and `busy`, the
    time in which at least one kernel ran, are None where no device was traced. Operators are sorted
    by time, the longest first.
    """

    window: float
    operators: tuple[Operator, ...]
    device_stages: Mapping[str, float] | None = None
    busy: float | None = None


def summarize(events: Iterable[Event]) -> TraceSummary:
    """Read a trace whose stages were marked by `StageTimer`. Raises ValueError without stages."""
    stages: list[tuple[float, float, str, Any]] = []
    operators: list[Event] = []
    launches: dict[Any, float] = {}
    on_device: list[Event] = []
    for event in events:
        if event.get("ph") != "X":
            continue
        category = event.get("cat")
        if category == "user_annotation" and str(event["name"]).startswith(PREFIX):
            name = str(event["name"]).removeprefix(PREFIX)
            stages.append((event["ts"], event["ts"] + event["dur"], name, event.get("tid")))
        elif category == "cpu_op":
            operators.append(event)
        elif category in _LAUNCHES:
            launches[_correlation(event)] = event["ts"]
        elif category in _ON_DEVICE:
            on_device.append(event)
    if not stages:
        raise ValueError("the trace has no stages")
    stages.sort()
    window = (max(end for _, end, *_ in stages) - stages[0][0]) * _US
    if not on_device:
        thread = stages[0][3]
        own = _own_times([event for event in operators if event.get("tid") == thread])
        return TraceSummary(window, _ranked(own))
    times = [(str(event["name"]), event["dur"]) for event in on_device]
    return TraceSummary(
        window, _ranked(times), _by_stage(stages, launches, on_device), _covered(on_device) * _US
    )


def _correlation(event: Event) -> Any:
    return event.get("args", {}).get("correlation")


def _by_stage(
    stages: Sequence[tuple[float, float, str, Any]],
    launches: Mapping[Any, float],
    on_device: Iterable[Event],
) -> Mapping[str, float]:
    """Seconds of the kernels by the stage in which they were launched; "other" outside of all."""
    starts = [start for start, *_ in stages]
    seconds: dict[str, float] = defaultdict(float)
    for event in on_device:
        launched = launches.get(_correlation(event))
        name = "other"
        if launched is not None:
            _, end, found, _ = stages[max(0, bisect_right(starts, launched) - 1)]
            if starts[0] <= launched <= end:
                name = found
        seconds[name] += event["dur"] * _US
    return dict(seconds)


def _covered(events: Iterable[Event]) -> float:
    """The length of the union of the events' intervals: streams run beside each other."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted((event["ts"], event["ts"] + event["dur"]) for event in events):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _own_times(events: Iterable[Event]) -> list[tuple[str, float]]:
    """Names and times of operators of one thread, without the time of those they call."""
    ordered = sorted(events, key=lambda event: (event["ts"], -event["dur"]))
    own = [float(event["dur"]) for event in ordered]
    open_: list[int] = []  # those that have not ended, the innermost last
    for i, event in enumerate(ordered):
        while open_ and event["ts"] >= _end(ordered[open_[-1]]):
            open_.pop()
        if open_:
            own[open_[-1]] -= event["dur"]
        open_.append(i)
    return [(str(event["name"]), max(0.0, time)) for event, time in zip(ordered, own, strict=True)]


def _end(event: Event) -> float:
    return float(event["ts"] + event["dur"])


def _ranked(times: Iterable[tuple[str, float]]) -> tuple[Operator, ...]:
    """Times in microseconds by name, the longest first."""
    calls: dict[str, int] = defaultdict(int)
    total: dict[str, float] = defaultdict(float)
    for name, time in times:
        calls[name] += 1
        total[name] += time
    found = (Operator(name, calls[name], total[name] * _US) for name in total)
    return tuple(sorted(found, key=lambda operator: (-operator.seconds, operator.name)))
