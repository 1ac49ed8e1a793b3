"""`trainer demo` without a terminal: it fits the machine, and shows progress and a sample."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from shared.run.directory import RunDirectory, discover_runs
from trainer.cli.main import main
from trainer.cli.training import demo
from trainer.cli.training.demo import SIZES, chosen, run_demo
from trainer.config.schema import Config
from trainer.launch.fitting import SHARE, Fit, Size, fit, measure_step


def only_run(runs_dir: Path) -> RunDirectory:
    (run,) = discover_runs(runs_dir)
    return run


@pytest.mark.parametrize(
    ("milliseconds", "name", "steps"),
    [
        ((1, 1, 1), "large", 1500),  # a fast machine makes all the steps it is worth
        ((100, 50, 10), "large", 750),  # a slower one fewer
        ((200, 100, 10), "middle", 750),  # too few of the large one: a smaller one
        ((2000, 500, 300), "small", 250),  # there is no smaller one
        ((9e9, 9e9, 9e9), "small", 10),
    ],
)
def test_the_size_and_the_steps_follow_from_the_measured_steps(
    milliseconds: tuple[float, ...], name: str, steps: int
) -> None:
    sizes = (Size("large", 1500, 700), Size("middle", 1500, 700), Size("small", 1500, 0))
    seconds = {
        size: value / 1000
        for size, value in zip(("large", "middle", "small"), milliseconds, strict=True)
    }
    asked: list[str] = []

    def measure(size: Size) -> float:
        asked.append(size.name)
        return seconds[size.name]

    found = fit(sizes, 75 / SHARE, measure)
    assert (found.size.name, found.steps) == (name, steps)
    assert asked[-1] == name, "nothing is measured once it fits"


def test_what_is_chosen_ends_in_time_and_is_looked_at_on_the_way() -> None:
    settings = chosen(Fit(SIZES[-1], 304, 0.5), 180.0)
    assert settings["train.max_steps"] == 300
    assert settings["train.max_hours"] == 0.05
    assert settings["eval.interval"] == 50
    assert settings["optim.warmup_steps"] == 30
    assert settings["model.hidden_size"] == SIZES[-1].changes["model.hidden_size"]


@pytest.mark.slow
def test_a_demo_on_a_slow_machine_takes_the_smallest_model_and_shows_a_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that a step takes two seconds; reading and measuring took 30 of its seconds."""
    moments = iter([0.0, 30.0])
    measured: list[int] = []

    def measure(config: Config) -> float:
        measured.append(config.model.hidden_size)
        return 2.0

    code = run_demo(
        tmp_path, [argparse.__file__], measure=measure, clock=lambda: next(moments, 30.0)
    )
    out = capsys.readouterr().out
    assert code == 0, out
    assert measured == [128, 96, 64], "the largest first"
    fitting = int(SHARE * (demo.SECONDS - demo.START_AND_END - 30) / 2)
    steps = fitting // demo.EVALUATIONS * demo.EVALUATIONS
    assert f"{steps} steps of minigpt-nano: one takes 2000 ms here" in out
    run = only_run(tmp_path)
    state = run.read_state()
    assert (state.status, state.max_steps) == ("completed", steps)  # type: ignore[union-attr]
    assert re.search(r"loss before [\d.]+, after [\d.]+; validation [\d.]+", out)
    assert f"A sample after {steps} steps" in out
    assert (run.samples / f"step_{steps // demo.EVALUATIONS}.txt").read_text().startswith("def ")
    assert "trainer generate --checkpoint" in out


@pytest.mark.slow
def test_a_number_of_steps_that_is_given_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--runs-dir", str(tmp_path), "--max-steps", "2", "--no-watch"]) == 0
    assert only_run(tmp_path).read_state().current_step == 2  # type: ignore[union-attr]
    assert "Timing" not in capsys.readouterr().out


def test_steps_are_measured_with_a_model_that_is_thrown_away(token_data: Path) -> None:
    shape = {"vocab_size": 258, "hidden_size": 8, "num_layers": 1, "num_heads": 2, "max_seq_len": 8}
    config = Config.model_validate(
        {
            "model": shape,
            "data": {"path": str(token_data)},
            "train": {"threads": 1, "device": "cpu"},
        }
    )
    assert measure_step(config) > 0
