"""What is made of run directories in every condition."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from monitor.data.scanner import RunScanner
from monitor.data.sparkline import SPARKS, sparkline
from monitor.data.tails import tail_lines
from monitor.data.views import RunView
from shared.control.daemons import DaemonDirectory
from shared.library.labels import change_labels
from shared.ownership.health import STALLED_AFTER
from shared.ownership.heartbeat import HeartbeatFile
from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.monitor.support import metric_lines, write_run


def scan(folder: Path) -> dict[str, RunView]:
    return {v.run_id: v for v in RunScanner(folder, time.time).scan()}


def test_a_living_run_is_running_and_first(tmp_path: Path) -> None:
    write_run(tmp_path, "zzz", {"status": "completed", "started_at": time.time() + 99})
    with RunWriter(tmp_path, name="live", max_steps=10) as writer:
        writer.log(5, loss=2.5)
        writer.update(durable=True)
        views = RunScanner(tmp_path, time.time).scan()
        assert [v.status for v in views] == ["running", "completed"]
        assert views[0].alive
        assert (views[0].step, views[0].fraction, views[0].loss) == (5, 0.5, 2.5)
    assert {v.status for v in RunScanner(tmp_path, time.time).scan()} == {"completed"}


def test_a_vanished_process_is_a_crash_with_its_last_words(crashed_run: RunDirectory) -> None:
    found = scan(crashed_run.path.parent)["crashed_1"]
    assert found.status == "crashed"
    assert not found.alive
    assert "999999" in found.reason
    assert found.last_log_lines[-1] == "Segmentation fault"
    assert found.eta_seconds is None


def test_a_failed_run_tells_its_exit_record(tmp_path: Path) -> None:
    exit_record = {"code": 1, "reason": "out of memory", "last_log_lines": ["a", "b\x1b[31m"]}
    write_run(tmp_path, "r", {"status": "failed", "exit": exit_record})
    found = scan(tmp_path)["r"]
    assert (found.reason, found.exit_code) == ("out of memory", 1)
    assert found.last_log_lines == ("a", "b[31m")


def test_a_run_caught_in_the_middle_of_a_write_stays(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {"status": "completed", "current_step": 7})
    scanner = RunScanner(tmp_path, time.time)
    assert scanner.scan()[0].step == 7
    (folder / "run_state.json").write_text('{"status": "comp')
    assert scanner.scan()[0].step == 7
    (folder / "run_state.json").write_text('{"status": "completed", "current_step": 8}')
    assert scanner.scan()[0].step == 8


def test_a_program_that_only_writes_metrics_can_be_watched(tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir()
    (folder / "metrics.jsonl").write_bytes(metric_lines(3) + b'{"torn')
    found = scan(tmp_path)["foreign"]
    assert (found.status, found.step, found.alive) == ("running", 2, False)
    old = time.time() - STALLED_AFTER - 100
    os.utime(folder / "metrics.jsonl", (old, old))
    found = scan(tmp_path)["foreign"]
    assert found.status == "idle"
    assert "last written" in found.reason


@pytest.mark.parametrize(
    "state", [b"", b"[]", b"null", b"\xff\xfe", b'{"status": 7, "current_step": "x"}', b"{" * 5000]
)
def test_a_broken_state_is_still_a_run(tmp_path: Path, state: bytes) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "run_state.json").write_bytes(state)
    assert scan(tmp_path)["r"].step == 0


def test_a_folder_in_place_of_a_file_is_survived(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {"status": "completed"})
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()
    (folder / "train.log").mkdir()
    assert scan(tmp_path)["r"].status == "completed"


def test_an_unchanged_ended_run_is_the_same_object(tmp_path: Path) -> None:
    write_run(tmp_path, "r", {"status": "completed"})
    scanner = RunScanner(tmp_path, time.time)
    assert scanner.scan()[0] is scanner.scan()[0]


def test_a_progress_bar_shows_its_last_state(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"10%\r20%\r30%\n\n\nend\n")
    assert tail_lines(tmp_path / "log", 2) == ("30%", "end")
    assert tail_lines(tmp_path / "none") == ()


def test_an_alarm_is_the_note_of_a_run_that_goes_on(tmp_path: Path) -> None:
    with RunWriter(tmp_path, supervised=True, micro_batch=4) as writer:
        writer.alarm("disk", "No checkpoint could be saved\x1b")
        writer.update(durable=True)
        found = scan(tmp_path)[writer.run.run_id]
        assert (found.status, found.reason, found.alarm) == (
            "running",
            "",
            "No checkpoint could be saved",
        )
        assert found.note == found.alarm
        assert (found.supervised, found.micro_batch) == (True, 4)
    ended = scan(tmp_path)[writer.run.run_id]
    assert (ended.status, ended.alarm) == ("completed", "")


def test_a_clock_that_differs_from_ours_makes_no_crash(tmp_path: Path) -> None:
    """The first look can only believe the clocks; from the next beat on they do not matter."""
    day = 86_400
    folder = write_run(tmp_path, "far", {"status": "running", "current_step": 3})
    clock = [time.time()]
    scanner = RunScanner(tmp_path, lambda: clock[0])

    def beat(moment: float) -> None:
        process = {"host": "elsewhere", "pid": 7, "boot": "b", "started": 1.0}
        beat = {"time": moment, "step": 3, "step_time": moment, "idle_seconds": 0.0}
        (folder / "heartbeat").write_text(json.dumps(process | beat))

    beat(clock[0] - day)
    scanner.scan()
    beat(clock[0] - day + 1)
    assert scanner.scan()[0].status == "running"


def test_labels_are_shown_and_followed(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {"status": "completed", "run_name": "base"})
    scanner = RunScanner(tmp_path, time.time)
    assert scanner.scan()[0].label == "r"
    change_labels(
        RunDirectory(folder), name="The one", note="keep\nit", add_tags=["good"], archived=True
    )
    found = scanner.scan()[0]
    assert (found.label, found.name, found.run_id) == ("The one", "base", "r")
    assert (found.tags, found.note_text, found.archived) == (("good",), "keep\nit", True)
    assert scanner.scan()[0] is found
    (folder / "labels.json").unlink()
    assert scanner.scan()[0].label == "r"


def test_sparklines_are_made_after_the_list_and_again_for_what_has_grown(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "r", {"status": "completed"}, metric_lines(1000))
    write_run(tmp_path, "long", {"status": "completed"}, metric_lines(30_000))
    write_run(tmp_path, "none", {"status": "completed"})
    scanner = RunScanner(tmp_path, time.time)
    assert all(view.sparkline == () for view in scanner.scan())
    assert scanner.draw_sparklines(10.0) == (True, False)
    views = {view.run_id: view for view in scanner.views}
    for name in ("r", "long"):
        assert len(views[name].sparkline) == SPARKS
        assert views[name].sparkline[0] == 6.0
        assert views[name].sparkline[-1] == pytest.approx(1.0, abs=0.01)
    assert views["none"].sparkline == ()
    assert scanner.draw_sparklines(10.0) == (False, False), "none is made twice"
    assert {v.run_id: v for v in scanner.scan()}["r"].sparkline == views["r"].sparkline
    assert sparkline(folder / "nothing") == ()


def test_a_sparkline_shows_a_divergence(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 1.0}\n{"step": 2, "loss": NaN}\njunk\n')
    low, bad = sparkline(path)
    assert low == 1.0
    assert bad != bad  # noqa: PLR0124  NaN


def test_of_many_runs_at_rest_all_have_their_turn(tmp_path: Path) -> None:
    for number in range(130):
        write_run(tmp_path, f"r{number:03}", {"status": "completed", "current_step": 1})
    scanner = RunScanner(tmp_path, time.time)
    assert len(scanner.scan()) == 130
    changed = ("r003", "r070", "r129")
    for name in changed:
        state = {"status": "completed", "current_step": 2}
        (tmp_path / name / "run_state.json").write_text(json.dumps(state))
    for _ in range(3):
        scanner.scan()
    steps = {view.run_id: view.step for view in scanner.views}
    assert {name for name, step in steps.items() if step == 2} == set(changed)
    state = {"status": "completed", "current_step": 3}
    (tmp_path / "r070" / "run_state.json").write_text(json.dumps(state))
    assert {v.run_id: v.step for v in scanner.scan({"r070"})}["r070"] == 3
    write_run(tmp_path, "r999", {"status": "completed"})
    assert len(scanner.scan()) == 131
    shutil.rmtree(tmp_path / "r000")
    assert len(scanner.scan()) == 130


def test_a_folder_becomes_a_run_when_it_has_a_file(tmp_path: Path) -> None:
    scanner = RunScanner(tmp_path, time.time)
    (tmp_path / "r").mkdir()
    assert scanner.scan() == ()
    (tmp_path / "r" / "metrics.jsonl").write_bytes(metric_lines(2))
    assert [view.step for view in scanner.scan()] == [1]
    (tmp_path / "r" / "metrics.jsonl").unlink()
    assert scanner.scan() == ()


def test_a_daemon_at_work_is_known_of_the_whole_folder(tmp_path: Path) -> None:
    assert not RunScanner(tmp_path, time.time).is_watched()
    daemon = DaemonDirectory.of(tmp_path)
    daemon.path.mkdir(parents=True)
    lock, beat = RunLock(daemon.lock_path), HeartbeatFile(daemon.heartbeat_path)
    lock.acquire()
    beat.beat()
    assert RunScanner(tmp_path, time.time).is_watched()
    beat.close()
    lock.release()
