"""Runs of other tools in the list, followed like our own."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from monitor.__main__ import main
from monitor.data.poller import read_once
from shared.foreign.walking import runs_of_file
from tests.monitor.data.test_poller import Desk
from tests.monitor.support import metric_lines, write_run
from tests.shared.foreign.test_databases import mlflow


def log(path: Path, steps: range) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f'{{"iteration": {step}, "loss": {1 / step}}}\n' for step in steps)
    return path


def state(folder: Path, steps: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    history = [{"loss": 1.0 / step, "step": step} for step in range(1, steps + 1)]
    value = {"global_step": steps, "max_steps": steps, "log_history": history}
    (folder / "trainer_state.json").write_text(json.dumps(value))
    return folder


def test_other_tools_runs_stand_beside_ours(tmp_path: Path) -> None:
    write_run(tmp_path, "ours", {"status": "completed"}, metric_lines(5))
    state(tmp_path / "out", 7)
    old = log(tmp_path / "below" / "mine.jsonl", range(1, 4))
    os.utime(old, (1e9, 1e9))
    runs = {run.run_id: run for run in read_once(tmp_path).runs}
    assert set(runs) == {"ours", "out", "below/mine.jsonl"}
    out, mine = runs["out"], runs["below/mine.jsonl"]
    assert (out.status, out.step, out.loss, len(out.sparkline)) == ("completed", 7, 1 / 7, 7)
    assert (mine.status, mine.step) == ("idle", 3)
    assert "JSON Lines; last written 2001-09-0" in mine.reason


def test_a_growing_log_is_followed(tmp_path: Path) -> None:
    path = log(tmp_path / "mine.jsonl", range(1, 4))
    desk = Desk(tmp_path)
    try:
        desk.until(lambda s: bool(s.runs))
        desk.poller.select("mine.jsonl")
        found = desk.until(lambda s: s.detail is not None and len(s.detail.loss) == 3)
        assert found.detail is not None
        assert found.detail.read_as == "JSON Lines; steps from iteration"
        log(path, range(4, 6))
        desk.until(lambda s: s.detail is not None and len(s.detail.loss) == 5)
        path.unlink()
        desk.poller.refresh()
        desk.until(lambda s: not s.runs)
    finally:
        desk.poller.stop()


def test_a_file_is_shown_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log(tmp_path / "mine.jsonl", range(1, 4))
    log(tmp_path / "other.jsonl", range(1, 3))
    assert main(["--runs-dir", str(path), "--json"]) == 0
    [run] = json.loads(capsys.readouterr().out)["runs"]
    assert (run["run_id"], run["format"], run["step"]) == ("mine.jsonl", "JSON Lines", 3)
    assert main(["--runs-dir", str(tmp_path), "--json", "--run", "other.jsonl"]) == 0
    [run] = json.loads(capsys.readouterr().out)["runs"]
    assert run["curve"]["points"] == 2
    assert main(["--runs-dir", str(tmp_path), "--json", "--run", "none.jsonl"]) == 2


def test_every_run_of_a_growing_database_has_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.data import foreign_runs

    monkeypatch.setattr(foreign_runs, "_READING", 0.0)  # one run at each look
    monkeypatch.setattr(foreign_runs, "_LOOK_AGAIN", 0.0)
    paths = [log(tmp_path / f"{name}.jsonl", range(1, 4)) for name in "abc"]
    runs = foreign_runs.ForeignRuns(tmp_path)
    for n in range(12):
        for path in paths:
            os.utime(path, (1e9 + n, 1e9 + n))  # all are due again
        runs.scan(2e9)
    assert [view.step for view in runs.views] == [3, 3, 3]


def test_a_name_that_is_too_long_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "--runs-dir", "n" * 300]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_database_that_was_locked_is_read_once_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.data import foreign_runs

    monkeypatch.setattr(foreign_runs, "_PROBLEM_AGAIN", 0.0)
    monkeypatch.setattr("shared.foreign.sqlite._WAIT", 0.0)
    path = mlflow(tmp_path / "mlflow.db", range(3))
    runs = foreign_runs.ForeignRuns(tmp_path, only=runs_of_file(path))
    writer = sqlite3.connect(path, isolation_level=None)
    try:
        writer.execute("BEGIN EXCLUSIVE")
        runs.scan(2e9)
        assert "locked" in runs.views[0].alarm
        writer.execute("ROLLBACK")  # the file's time stays as it is
    finally:
        writer.close()
    runs.scan(2e9)
    assert (runs.views[0].step, runs.views[0].alarm) == (2, "")
    assert not runs.more
