"""The thread between files and screen."""

from __future__ import annotations

import queue
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from monitor.data.poller import Poller, read_once
from monitor.data.views import Snapshot
from shared.run_directory import RunDirectory
from tests.monitor.support import metric_lines, write_run


class Desk:
    """Takes in what a poller publishes."""

    def __init__(self, runs_dir: Path, poll: float = 0.05) -> None:
        self.poller = Poller(runs_dir, poll)
        self._taken: queue.Queue[Snapshot] = queue.Queue()
        self.poller.start(self._taken.put)

    def until(self, wanted: Callable[[Snapshot], bool]) -> Snapshot:
        """The first snapshot for which `wanted` holds."""
        while True:
            found = self._taken.get(timeout=20)
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
    assert desk.until(lambda s: len(s.runs) == 1).detail is None
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


def test_a_long_file_is_shown_while_it_is_read(tmp_path: Path) -> None:
    write_run(tmp_path, "a", {"status": "completed"}, metric_lines(300_000))
    desk = Desk(tmp_path)
    try:
        desk.poller.select("a")
        early = desk.until(lambda s: points(s) > 0)
        assert early.detail is not None
        assert 0 < (early.detail.loading or 0) < 1
        late = desk.until(lambda s: s.detail is not None and s.detail.loading is None)
        assert points(late) == 300_000
    finally:
        desk.poller.stop()


def test_reading_once_reads_all(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", {"status": "completed"}, b"\n" * (3 << 20) + metric_lines(7))
    assert points(read_once(tmp_path, RunDirectory(folder))) == 7
