"""Times in a trace: of a CPU by operator, of a GPU by kernel and by stage."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.profiling.profile import operator_shares, stage_shares
from trainer.profiling.stages import PREFIX, STAGES, StageTimer
from trainer.profiling.trace import summarize


def span(
    name: str, start: float, length: float, cat: str = "cpu_op", **more: Any
) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "tid": 1, "ts": start, "dur": length, **more}


def stage(name: str, start: float, length: float) -> dict[str, Any]:
    return span(PREFIX + name, start, length, "user_annotation")


def launched(
    name: str, number: int, *, at: float, start: float, length: float, tid: int = 1
) -> list[dict[str, Any]]:
    """A kernel, and the call of the host that launched it."""
    args = {"correlation": number}
    return [
        span("cudaLaunchKernel", at, 1, "cuda_runtime", args=args) | {"tid": tid},
        span(name, start, length, "kernel", args=args) | {"tid": 7},
    ]


def test_an_operator_does_not_count_the_time_of_those_it_calls() -> None:
    events = [
        stage("forward", 0, 100),
        span("outer", 10, 50),
        span("inner", 20, 10),
        span("inner", 30, 10),
        span("elsewhere", 0, 100) | {"tid": 2},
        {"ph": "M", "name": "process_name"},
    ]
    found = summarize(events)
    assert found.window == pytest.approx(100e-6)
    assert found.device_stages is None
    assert [(o.name, o.calls, round(o.seconds * 1e6)) for o in found.operators] == [
        ("outer", 1, 30),
        ("inner", 2, 20),
    ]


def test_a_kernel_counts_for_the_stage_that_launched_it_from_any_thread() -> None:
    """The GPU is behind the host, and the backward pass of a GPU has a thread of its own."""
    events = [
        stage("forward", 0, 100),
        stage("backward", 100, 100),
        *launched("gemm", 1, at=10, start=150, length=100),
        *launched("gemm", 2, at=110, start=250, length=200, tid=2),
        *launched("copy", 3, at=500, start=500, length=50),
        span(PREFIX + "forward", 150, 100, "gpu_user_annotation"),
    ]
    found = summarize(events)
    assert found.device_stages is not None
    assert {k: round(v * 1e6) for k, v in found.device_stages.items()} == {
        "forward": 100,
        "backward": 200,
        "other": 50,
    }
    assert [(o.name, o.calls) for o in found.operators] == [("gemm", 2), ("copy", 1)]


def test_time_in_which_the_gpu_does_nothing_is_a_row_of_its_own() -> None:
    events = [
        stage("forward", 0, 400),
        *launched("a", 1, at=0, start=100, length=100),
        *launched("b", 2, at=1, start=150, length=100),  # beside it, on another stream
    ]
    found = summarize(events)
    assert found.busy == pytest.approx(150e-6)
    rows = {row.name: row for row in stage_shares({"forward": 400e-6}, found, 1)}
    assert rows["idle"].device_ms == pytest.approx(0.25)
    assert rows["forward"].host_ms == pytest.approx(0.4)
    assert sum(row.share for row in rows.values()) == pytest.approx(1)


def test_a_trace_without_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="no stages"):
        summarize([span("aten::mm", 0, 1)])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=20))
def test_own_times_add_up_to_the_time_in_which_anything_ran(tree: list[tuple[int, int]]) -> None:
    """Operators of one thread are nested: each begins in the one before it or after that ended."""
    events, start, ends = [stage("forward", 0, 10_000)], 0, [10_000]
    covered = 0
    for after, length in tree:
        start += after
        while len(ends) > 1 and start >= ends[-1]:
            ends.pop()
        if len(ends) == 1:
            covered += min(length, ends[-1] - start)
        end = min(start + length, ends[-1])
        if end > start:
            events.append(span(f"op{len(events)}", start, end - start))
            ends.append(end)
    total = sum(o.seconds for o in summarize(events).operators) * 1e6
    assert total == pytest.approx(covered)


def test_operators_beyond_those_listed_are_one_row() -> None:
    events = [stage("forward", 0, 100), span("a", 0, 50), span("b", 50, 30), span("c", 80, 20)]
    rows = operator_shares(summarize(events), steps=2, most=1)
    assert [row.name for row in rows] == ["a", "2 more"]
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert rows[0].ms == pytest.approx(0.025)


def test_a_stage_lasts_until_the_next_one() -> None:
    times = iter([0.0, 1.0, 1.0, 3.0, 7.0, 8.0])
    timer = StageTimer(clock=lambda: next(times))  # made at 0
    timer.enter("data")  # at 1
    timer.restart()  # at 1: what was before does not count
    timer.enter("forward")  # at 3
    timer.enter("data")  # at 7
    seconds = timer.seconds()  # at 8
    assert dict(seconds) == dict.fromkeys(STAGES, 0.0) | {"data": 3.0, "forward": 4.0}
