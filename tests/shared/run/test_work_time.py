"""How long a trainer has worked on a run: neither pauses nor the time between attempts count."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shared.run.directory import RunDirectory
from shared.run.pace import Pace
from shared.run.records import RunState
from shared.run.work_time import GAP, WorkTime
from shared.run_writer import RunWriter


@dataclasses.dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3 * GAP)), max_size=30))
def test_only_time_at_work_counts(spans: list[tuple[bool, float]]) -> None:
    clock = Clock()
    work, expected = WorkTime(5.0, clock), 5.0
    for working, seconds in spans:
        work.set_working(working)
        before = clock.now
        clock.now += seconds
        passed = clock.now - before
        stopped = passed >= GAP
        assert work.look() is (stopped and working)
        expected += passed if working and not stopped else 0.0
        assert abs((work.seconds or 0.0) - expected) < 1e-6
    unknown = WorkTime(None, clock)
    clock.now += 1
    unknown.look()
    assert unknown.seconds is None


def test_pauses_and_the_time_between_attempts_do_not_count(tmp_path: Path) -> None:
    clock = Clock()

    def work(writer: RunWriter, seconds: float) -> None:
        for _ in range(10):
            clock.now += seconds / 10
            writer.update(durable=True)

    writer = RunWriter(tmp_path, name="r", clock=clock)
    writer.set_status("running")
    work(writer, 40)
    writer.set_status("paused")
    work(writer, 60)
    writer.set_status("running")
    work(writer, 20)
    writer.finish("cancelled")
    run = RunDirectory(writer.run.path)
    assert (run.read_state() or RunState()).trained_seconds == 60
    clock.now += 3600  # the run waits for its next attempt
    again = RunWriter(run=run, clock=clock)
    again.set_status("running")
    work(again, 5)
    again.finish("completed")
    assert (run.read_state() or RunState()).time_trained == 65


def test_an_older_state_tells_only_of_its_one_attempt() -> None:
    old = RunState(started_at=100.0, ended_at=160.0, attempt=1)
    assert old.time_trained == 60
    assert dataclasses.replace(old, attempt=2).time_trained is None
    assert dataclasses.replace(old, ended_at=None).time_trained is None
    assert dataclasses.replace(old, ended_at=50.0).time_trained == 0


def test_the_time_left_forgets_steps_before_the_process_was_stopped() -> None:
    clock = Clock()
    pace = Pace(clock)
    for step in range(10):
        clock.now += 1
        pace.finished(step, 1000)
    assert pace.seconds_to(19) == 10
    clock.now += 3600
    pace.stopped()
    pace.finished(10, 3_600_000)
    assert pace.seconds_to(19) is None
    clock.now += 2
    pace.finished(11, 2000)
    assert pace.seconds_to(19) == 16
    assert pace.step_seconds is not None
    assert pace.step_seconds < 2
