"""The experiments on Tiny Shakespeare run, on any text."""

from __future__ import annotations

import pytest

from benchmarks import growth, hybrid, optimizer_ablations, study, time_to_loss
from benchmarks.experiments import run
from benchmarks.record import Result, Row


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be, that is the question\n" * 100)
    return path


def test_the_ablations_run(text) -> None:
    for _, arms in optimizer_ablations.STUDIES.values():
        arm = arms[-1]
        trial = arm.trials[0] if arm.trials else {}
        done = optimizer_ablations.train({**arm.settings, **trial, "train.max_steps": 2}, text)
        assert 0 < done.loss < 5


def test_growth_runs(text) -> None:
    short = {"train.max_steps": 10, "optim.warmup_steps": 2, "growth.stages": growth.STAGES}
    done = study.train({**growth.SHAPE, **short}, text)
    whole = study.train({**growth.SHAPE, "train.max_steps": 1, "optim.warmup_steps": 0}, text)
    assert 0 < done.loss < 5
    assert 0 < done.flops < 10 * whole.flops


def test_predicted_steps_run(text) -> None:
    short = {"train.max_steps": 9, "hybrid.predictor": "linear", "hybrid.every": 3}
    done = study.train(
        {**hybrid.SHAPE, **short, "hybrid.correct": 2, "optim.warmup_steps": 2}, text
    )
    assert 0 < done.loss < 5
    assert done.backward + done.predicted == 9


def test_both_sides_of_time_to_quality_run(text) -> None:
    short = {"train.max_steps": 3, "eval.interval": 10}
    for who in (time_to_loss.PEER, time_to_loss.OURS_FP32):
        reached = time_to_loss.work(who, text, 3, short)
        assert reached.wall > 0
        assert 0 < reached.loss < 5


def test_without_the_text_it_says_so(tmp_path) -> None:
    with pytest.raises(SystemExit, match=r"absent; give tinyshakespeare\.txt with --text"):
        time_to_loss.measure(text=tmp_path / "none.txt")


def test_sections_are_replaced_and_others_stay(tmp_path) -> None:
    page = tmp_path / "experiments.md"
    for title, value in (("One", 1.0), ("Two", 2.0), ("One", 3.0)):
        assert run(title, "What.", "x", lambda v=value: Result([Row("loss", v, "nats")]), page) == 0
    text = page.read_text()
    assert text.count("## One") == 1
    assert "| loss | 3 | nats |" in text
    assert "| loss | 2 | nats |" in text
