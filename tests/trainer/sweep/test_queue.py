"""A sweep is queued whole or not at all, whatever happens in between."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shared.errors import UserError
from shared.run.directory import RunDirectory, discover_runs
from shared.run.records import RunState
from trainer.config.resolve import resolve
from trainer.sweep.groups import find_group, find_groups, new_group
from trainer.sweep.queue import FOLDER, finish_interrupted, queue_sweep
from trainer.sweep.sweep import Planned, Sweep


def sweep(*rates: float, group: str = "g", limit: int | None = 2) -> Sweep:
    runs = tuple(
        Planned(
            f"lr={rate}",
            {"optim.learning_rate": rate},
            resolve({"name": f"lr={rate}", "data.dataset": "synthetic"}),
            tokens=80,
            max_steps=10,
        )
        for rate in rates
    )
    return Sweep(group, (), runs, points=len(runs), limit=limit)


def state_of(run: RunDirectory) -> RunState:
    state = run.read_state()
    assert state is not None
    return state


def test_runs_are_queued_in_order_and_know_their_group(tmp_path: Path) -> None:
    runs = queue_sweep(sweep(0.3, 0.1, 0.2), tmp_path / "new" / "runs")
    states = [state_of(run) for run in runs]
    assert [state.swept for state in states] == [
        {"optim.learning_rate": rate} for rate in (0.3, 0.1, 0.2)
    ]
    assert {(s.group, s.group_limit, s.status, s.supervised) for s in states} == {
        ("g", 2, "queued", True)
    }
    assert [state.max_steps for state in states] == [10, 10, 10]
    group = find_group(tmp_path / "new" / "runs", "g")
    assert [member.run.run_id for member in group] == [run.run_id for run in runs]


def test_one_that_cannot_be_created_leaves_none(tmp_path: Path) -> None:
    good = sweep(0.1, 0.2)
    bad = Planned("///", {}, resolve({"name": "///", "data.dataset": "synthetic"}), 1, 1)
    with pytest.raises(UserError, match="has no usable character"):
        queue_sweep(Sweep("g", (), (*good.runs, bad), points=3), tmp_path)
    assert discover_runs(tmp_path) == []
    assert len(queue_sweep(good, tmp_path)) == 2, "what failed is no hindrance"


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    queue_sweep(sweep(0.1), tmp_path)
    for again in (lambda: queue_sweep(sweep(0.2), tmp_path), lambda: new_group("G", "", tmp_path)):
        with pytest.raises(UserError, match="There is a group"):
            again()
    assert new_group(None, "g", tmp_path) == "g-sweep"
    queue_sweep(sweep(0.1, group="g-sweep"), tmp_path)
    assert new_group(None, "g", tmp_path) == "g-sweep-2"


def interrupt(runs_dir: Path, moved: int, *, complete: bool) -> None:
    """What a kill in the middle of queueing has left: some runs are moved already."""
    stage = runs_dir / FOLDER / "stage"
    stage.mkdir(parents=True)
    for run in discover_runs(runs_dir)[moved:]:
        shutil.move(run.path, stage / run.run_id)
    if complete:
        (runs_dir / FOLDER / "complete").touch()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_kill_while_runs_are_moved_loses_none(tmp_path: Path, moved: int) -> None:
    queue_sweep(sweep(0.1, 0.2), tmp_path)
    interrupt(tmp_path, moved, complete=True)
    finish_interrupted(tmp_path)
    assert len(find_group(tmp_path, "g")) == 2
    assert not (tmp_path / FOLDER / "stage").exists()
    finish_interrupted(tmp_path)


def test_a_kill_before_that_leaves_nothing(tmp_path: Path) -> None:
    queue_sweep(sweep(0.1, 0.2), tmp_path)
    interrupt(tmp_path, 0, complete=False)
    finish_interrupted(tmp_path)
    assert find_groups(tmp_path) == {}
    assert len(queue_sweep(sweep(0.1, 0.2), tmp_path)) == 2


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b[2J", "x" * 61, " a", "///"])
def test_names_that_cannot_be_shown_or_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        new_group(name, "base", tmp_path)


def test_an_unknown_group_is_answered_with_the_nearest(tmp_path: Path) -> None:
    queue_sweep(sweep(0.1, group="rates"), tmp_path)
    with pytest.raises(UserError, match=r"did you mean rates\?\); it has rates\."):
        find_group(tmp_path, "rate")
