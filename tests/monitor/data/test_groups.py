"""Runs of a sweep as the list has them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from monitor.data.groups import best_runs, swept_keys
from monitor.data.scanner import RunScanner
from monitor.report import change_report
from tests.monitor.support import view, write_run


def member(runs_dir: Path, rate: float, seed: int, **state: Any) -> Path:
    swept = {"optim.learning_rate": rate, "train.seed": seed}
    name = f"lr={rate},seed={seed}"
    known = {"run_name": name, "status": "completed", "group": "rates", "swept": swept}
    return write_run(runs_dir, f"lr-{rate}-seed-{seed}_20260101_120000", {**known, **state})


def test_the_best_setting_is_marked_and_the_mark_moves(tmp_path: Path) -> None:
    folders = [
        member(tmp_path, rate, seed, val_loss=loss)
        for rate, seed, loss in ((0.1, 1, 2.0), (0.1, 2, 2.2), (0.2, 1, 1.0), (0.2, 2, 9.0))
    ]
    scanner = RunScanner(tmp_path, time.time)
    found = {v.label: v for v in scanner.scan()}
    assert {label for label, v in found.items() if v.is_best} == {
        "lr=0.1,seed=1_20260101_120000",
        "lr=0.1,seed=2_20260101_120000",
    }
    assert scanner.scan() == tuple(found.values())
    path = folders[3] / "run_state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "val_loss": 1.1}) + " ")
    again = scanner.scan(fresh=True)
    assert {v.name for v in again if v.is_best} == {"lr=0.2,seed=1", "lr=0.2,seed=2"}
    best = next(v for v in again if v.is_best)
    report = change_report(best, time.time())
    assert (report["group"], report["is_best_of_group"]) == ("rates", True)
    assert report["swept"]["optim.learning_rate"] == 0.2
    assert swept_keys(again) == ("optim.learning_rate", "train.seed")


def test_of_rewarded_runs_that_with_the_highest_reward_is_marked(tmp_path: Path) -> None:
    for rate, reward, loss in ((0.1, 0.9, 0.3), (0.2, 0.4, -0.3)):
        member(tmp_path, rate, 1, best_metric="val_reward", best_loss=reward, current_loss=loss)
    found = RunScanner(tmp_path, time.time).scan()
    assert [v.label for v in found if v.is_best] == ["lr=0.1,seed=1_20260101_120000"]


def test_runs_without_a_group_have_no_best() -> None:
    assert best_runs([view("a", val_loss=1.0), view("b", val_loss=2.0)]) == frozenset()
