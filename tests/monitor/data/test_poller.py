"""The thread between files and screen."""

from __future__ import annotations

import dataclasses
import queue
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.data.machine import Machine, MachineView
from monitor.data.newest import differ
from monitor.data.pace import Pace, Thrift
from monitor.data.poller import Poller, read_once
from monitor.data.views import Snapshot
from shared.run.directory import RunDirectory
from tests.monitor.support import metric_lines, view, write_run
from tests.waiting import SECONDS


class Desk:
    """Takes in what a poller publishes."""

    def __init__(self, runs_dir: Path, poll: float = 0.05, **options: Any) -> None:
        self.poller = Poller(runs_dir, poll, **options)
        self._taken: queue.Queue[Snapshot] = queue.Queue()
        self.poller.start(self._taken.put)

    def until(self, wanted: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot for which `wanted` holds."""
        while True:
            found = self._taken.get(timeout=SECONDS)
            if wanted(found):
                return found


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path)
    yield found
    found.poller.stop()


def points(snapshot: Snapshot) -> int:
    return len(snapshot.detail.loss) if snapshot.detail else -1


def test_runs_appear_grow_and_vanish(tmp_path: Path, desk: Desk) -> None:
    assert desk.until(lambda s: True).runs == ()
    folder = write_run(tmp_path, "a", {"status": "completed"}, metric_lines(5))
    assert desk.until(lambda s: len(s.runs) == 1).problem == ""
    desk.poller.select("a")
    assert points(desk.until(lambda s: points(s) == 5)) == 5
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(metric_lines(5, start=5))
    desk.until(lambda s: points(s) == 10)
    shutil.rmtree(folder)
    desk.until(lambda s: not s.runs)


def test_a_run_can_be_selected_before_it_is_there(tmp_path: Path, desk: Desk) -> None:
    desk.poller.select("later")
    write_run(tmp_path, "later", {"status": "completed"}, metric_lines(3))
    assert points(desk.until(lambda s: points(s) == 3)) == 3


def test_a_lost_folder_is_a_problem_not_an_end(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    desk = Desk(folder)
    try:
        desk.until(lambda s: not s.problem)
        folder.rmdir()
        assert "cannot be read" in desk.until(lambda s: bool(s.problem)).problem
        folder.mkdir()
        desk.until(lambda s: not s.problem)
    finally:
        desk.poller.stop()


def test_an_error_while_reading_is_a_problem_not_an_end(tmp_path: Path) -> None:
    class Loose(Machine):
        broken = False

        def view(self) -> MachineView:
            if self.broken:
                raise KeyError("a\ndriver")
            return super().view()

    write_run(tmp_path, "a", {"status": "completed"}, metric_lines(5))
    machine = Loose(tmp_path)
    desk = Desk(tmp_path, machine=machine)
    try:
        desk.until(lambda s: points(s) == 5)
        machine.broken = True
        desk.poller.refresh()
        found = desk.until(lambda s: bool(s.problem))
        assert found.problem.startswith("Reading failed, KeyError: ") and points(found) == 5
        machine.broken = False
        assert points(desk.until(lambda s: not s.problem)) == 5
    finally:
        desk.poller.stop()


def test_refresh_publishes_even_if_nothing_changed(tmp_path: Path) -> None:
    desk = Desk(tmp_path, poll=3600)
    try:
        desk.until(lambda s: True)
        desk.poller.refresh()
        desk.until(lambda s: True)
    finally:
        desk.poller.stop()


def test_hints_bring_a_new_line_before_the_next_poll(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", {"status": "completed"}, metric_lines(5))
    desk = Desk(tmp_path, poll=3600)
    try:
        desk.poller.select("a")
        desk.until(lambda s: points(s) == 5)
        for count in range(5, 10):  # the selection itself causes a look or two
            with (folder / "metrics.jsonl").open("ab") as file:
                file.write(metric_lines(1, start=count))
            desk.until(lambda s, count=count: points(s) == count + 1)  # type: ignore[misc]
    finally:
        desk.poller.stop()


def test_a_long_file_is_skimmed_then_read(tmp_path: Path) -> None:
    write_run(tmp_path, "a", {"status": "completed"}, metric_lines(300_000))
    desk = Desk(tmp_path)
    try:
        early = desk.until(lambda s: points(s) > 0).detail
        assert early is not None
        assert early.approximate
        assert early.loading is not None
        assert (early.loss.steps[0], early.loss.steps[-1]) == (0, 299_999)
        assert len(early.loss) < 2000
        late = desk.until(lambda s: s.detail is not None and s.detail.loading is None).detail
        assert late is not None
        assert (len(late.loss), late.approximate) == (300_000, False)
        assert late.version > early.version
    finally:
        desk.poller.stop()


def test_the_first_snapshot_has_the_run_that_will_be_selected(tmp_path: Path) -> None:
    write_run(tmp_path, "old", {"status": "completed", "started_at": 1.0}, metric_lines(3))
    write_run(tmp_path, "new", {"status": "completed", "started_at": 2.0}, metric_lines(4))
    desk = Desk(tmp_path)
    try:
        first = desk.until(lambda s: True)
        assert first.detail is not None
        assert (first.detail.run_id, points(first)) == (first.runs[0].run_id, 4)
    finally:
        desk.poller.stop()


def test_marked_runs_are_followed_beside_the_selected_one(tmp_path: Path, desk: Desk) -> None:
    folders = {
        name: write_run(tmp_path, name, {"status": "completed"}, metric_lines(2_000))
        for name in ("a", "b", "c")
    }
    desk.poller.select("a")
    desk.poller.follow(frozenset({"a", "c"}))
    found = desk.until(lambda s: set(s.details) == {"a", "c"})
    assert points(found) == 2_000
    assert len(found.details["c"].loss) == 2_000
    with (folders["c"] / "metrics.jsonl").open("ab") as file:
        file.write(metric_lines(1, start=2_000))
    desk.until(lambda s: "c" in s.details and len(s.details["c"].loss) == 2_001)
    desk.poller.follow(frozenset())
    assert desk.until(lambda s: set(s.details) == {"a"}).detail is not None


def test_of_what_memory_cannot_hold_only_the_selected_run_is_exact(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(tmp_path, name, {"status": "completed"}, metric_lines(100_000))
    desk = Desk(tmp_path, memory=1 << 20)
    try:
        desk.poller.select("a")
        desk.poller.follow(frozenset({"b"}))
        found = desk.until(
            lambda s: set(s.details) == {"a", "b"} and s.details["a"].loading is None
        )
        assert len(found.details["a"].loss) == 100_000
        assert found.details["b"].approximate
        desk.poller.select("b")
        desk.poller.follow(frozenset())
        again = desk.until(lambda s: points(s) == 100_000 and s.details.keys() == {"b"})
        assert again.detail is not None
        assert not again.detail.approximate
        desk.poller.select("a")  # which was forgotten meanwhile, for want of memory
        desk.until(lambda s: "a" in s.details and s.details["a"].approximate)
        desk.until(lambda s: "a" in s.details and len(s.details["a"].loss) == 100_000)
    finally:
        desk.poller.stop()


def test_sparklines_and_the_machine_come_by_themselves(tmp_path: Path, desk: Desk) -> None:
    write_run(tmp_path, "a", {"status": "completed"}, metric_lines(100))
    found = desk.until(lambda s: bool(s.runs) and bool(s.runs[0].sparkline))
    assert found.runs[0].sparkline[0] == 6.0
    machine = desk.until(lambda s: s.machine is not None and bool(s.machine.disk.total)).machine
    assert machine is not None
    assert machine.host


def test_a_steady_stream_is_looked_at_less_often_than_a_single_line() -> None:
    now = [100.0]
    pace = Pace(5.0, 3, lambda: now[0])
    waits = []
    for _ in range(6):
        waits.append(pace.wait())
        now[0] += waits[-1]
        pace.take()
    assert waits[:3] == [0.0, 0.0, 0.0]
    assert waits[3:] == pytest.approx([0.2, 0.2, 0.2])
    now[0] += 10
    assert pace.wait() == 0.0


def test_looks_at_a_busy_run_take_a_share_of_a_core() -> None:
    computed = [5.0]
    thrift = Thrift(0.2, 0.05, lambda: computed[0])
    assert thrift.wait() == 0.2, "nothing was computed"
    computed[0] += 0.005
    assert thrift.wait() == 0.2, "a cheap look"
    computed[0] += 0.025
    assert thrift.wait() == pytest.approx(0.5), "a dear one"
    assert thrift.wait() == 0.2


def test_reading_once_reads_all(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", {"status": "completed"}, b"\n" * (3 << 20) + metric_lines(7))
    assert points(read_once(tmp_path, RunDirectory(folder))) == 7


def test_a_state_that_only_repeats_the_metrics_is_no_news() -> None:
    one, other = view("one", step=5), view("other", step=5)
    ahead = dataclasses.replace(one, step=6, loss=1.5, updated_at=1e9, eta_seconds=3.0)
    assert differ((one, other), (one, other), {"one"}) == (False, False)
    assert differ((ahead, other), (one, other), {"one"}) == (True, True)
    assert differ((ahead, other), (one, other), {"other"}) == (True, False), "nobody reads it"
    paused = dataclasses.replace(ahead, status="paused")
    assert differ((paused, other), (one, other), {"one"}) == (True, False)
    assert differ((one,), (one, other), {"one"}) == (True, False)
