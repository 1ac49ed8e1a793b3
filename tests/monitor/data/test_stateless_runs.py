"""Runs of other programs, of which there are only metrics: judged by them, and left in peace."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from monitor.data.follower import RunFollower
from monitor.data.poller import read_once
from monitor.data.scanner import RunScanner
from monitor.report import report
from shared.run.directory import RunDirectory

NOW = 2_000_000_000.0


def write(folder: Path, records: list[dict[str, Any]], age: float = 3600.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    os.utime(path, (NOW - age, NOW - age))
    return path


def told(folder: Path) -> dict[str, Any]:
    return report(read_once(folder.parent, RunDirectory(folder)))["runs"][0]


def test_one_that_rests_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [{"step": 1, "loss": 2.0}])
    scanner = RunScanner(tmp_path, lambda: NOW)
    (view,) = scanner.scan()
    assert (view.status, view.step, view.loss) == ("idle", 1, 2.0)
    scanner.draw_sparklines(60.0)
    before = path.stat()
    path.write_text('{"step": 7, "loss": 2.0}\n')
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (same,) = scanner.scan(fresh=True)
    assert same.step == 1, "the same size and time: it is not read again"
    assert scanner.draw_sparklines(60.0) == (False, False)
    write(tmp_path / "a", [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], age=1.0)
    (grown,) = scanner.scan(fresh=True)
    assert (grown.status, grown.step, grown.loss) == ("running", 2, 1.0)


def test_one_at_work_comes_to_rest_without_being_read_again(tmp_path: Path) -> None:
    now = [NOW]
    write(tmp_path / "a", [{"step": 1, "loss": 2.0}], age=1.0)
    scanner = RunScanner(tmp_path, lambda: now[0])
    assert scanner.scan()[0].status == "running"
    now[0] += 3600
    (view,) = scanner.scan(fresh=True)
    assert view.status == "idle"
    now[0] += 3600
    assert scanner.scan(fresh=True)[0] is view, "no sentence changes with the time of day"


def test_its_phases_its_nan_end_and_its_total_show(tmp_path: Path) -> None:
    records = [{"step": i, "loss": 2.0, "phase": "a" if i < 5 else "b"} for i in range(9)]
    write(tmp_path / "r", [*records, {"step": 9, "loss": math.nan, "total_steps": 20}])
    run = told(tmp_path / "r")
    assert (run["step"], run["max_steps"], run["loss"]) == (9, 20, "nan")
    assert [(t["step"], t["to"]) for t in run["transitions"]] == [(0, "a"), (5, "b")]


def test_its_newest_attempt_is_the_curve(tmp_path: Path) -> None:
    old = [{"step": i, "loss": 5 - i / 50, "val_loss": 9.0, "attempt": 1} for i in range(151)]
    new = [{"step": i, "loss": 3.0, "attempt": 2} for i in range(100, 131)]
    write(tmp_path / "r", [*old, *new])
    run = told(tmp_path / "r")
    assert (run["step"], run["loss"], run["given_up_after"]) == (130, 3.0, 130)
    assert (run["curve"]["last"], run["curve"]["last_step"]) == (3.0, 130)
    assert run["series"]["val_loss"]["last_step"] == 130


def test_a_going_back_without_attempts_is_one_too(tmp_path: Path) -> None:
    old = [{"step": i, "loss": 2.0} for i in range(0, 310, 10)]
    late = {"step": 290, "eval_loss": 2.5}
    write(tmp_path / "r", [*old, late])
    assert told(tmp_path / "r")["given_up_after"] is None, "a late evaluation is no going back"
    write(tmp_path / "r", [*old, late, *[{"step": i, "loss": 3.0} for i in (100, 110, 120)]])
    run = told(tmp_path / "r")
    assert (run["given_up_after"], run["curve"]["last"]) == (120, 3.0)
    follower = RunFollower(RunDirectory(tmp_path / "r"))
    follower.poll()
    assert follower.detail().abandoned["loss"].steps[0] == 130


def test_the_step_key_and_the_encoding_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "r", [])
    text = "".join(f'{{"global_step": {i}, "train": {{"loss": 2.0}}}}\n' for i in range(9))
    path.write_bytes(text.encode("utf-16"))
    run = told(tmp_path / "r")
    assert run["read_as"] == "UTF-16-LE; steps from global_step"
    assert (run["step"], run["loss"], run["curve"]["metric"]) == (8, 2.0, "train.loss")


def test_where_nothing_can_be_shown_the_reason_is_told(tmp_path: Path) -> None:
    write(tmp_path / "r", [{"reward": 1.0, "note": "x"}] * 3)
    run = told(tmp_path / "r")
    assert run["unread"] == (
        "3 of 3 lines are not shown: 3 have no step key; keys found: reward, note"
    )
