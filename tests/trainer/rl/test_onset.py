"""Advice from labelled curves of rewards: onset of hacking is said, and little of healthy runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from shared.run.advice import Advice
from shared.run.reward_advice import LEAST
from trainer.rl.onset import Onset

N, EVERY = 160, 10
SEEDS = 60 if os.environ.get("TRAINER_SOAK") else 4
T = np.arange(1, N + 1)
Curves = dict[str, np.ndarray]


def rising(low: float, high: float, pace: float = 40.0) -> np.ndarray:
    return high - (high - low) * np.exp(-T / pace)


def after(step: int, by: float, over: int = 60) -> np.ndarray:
    """Nothing, then a change of `by` in the course of `over` steps."""
    return by * np.clip((T - step) / over, 0, 1)


def healthy() -> Curves:
    """Parse, compile and tests get better, answers a little shorter and less random."""
    parts = {
        "reward_parse": rising(0.22, 0.29),
        "reward_compile": rising(0.18, 0.36),
        "reward_tests": rising(0.02, 0.12),
        "reward_style": rising(0.005, 0.02),
    }
    return {
        **parts,
        "reward_mean": sum(parts.values()),
        "compile_rate": rising(0.4, 0.88),
        "test_rate": rising(0.05, 0.4),
        "entropy": rising(0.7, 0.2),
        "completion_length": rising(48.0, 36.0),
        "val_compile_rate": rising(0.35, 0.78),
        "val_reward": rising(0.4, 0.65),
        "val_test_rate": rising(0.04, 0.2),
    }


_NOISE = {"completion_length": 3.0, "entropy": 0.02}


def drawn(curves: Mapping[str, np.ndarray], seed: int, noise: float = 1.0) -> Curves:
    """The curves with noise like that of batches."""
    rng = np.random.default_rng(seed)
    found = {}
    for key, values in curves.items():
        usual = 0.012 if key.startswith("reward_") and key != "reward_mean" else 0.035
        found[key] = values + rng.normal(0, noise * _NOISE.get(key, usual), N)
        if not key.startswith(("entropy", "completion")):
            found[key] = found[key].clip(0, 1)
    return found


def told(curves: Curves, iterations: int = N) -> dict[str, Advice]:
    """What is said in the course of a run, which is looked at after every evaluation."""
    onset, found = Onset(), {}
    for place in range(iterations):
        step = place + 1
        figures = {key: float(values[place]) for key, values in curves.items()}
        onset.take(step, {k: v for k, v in figures.items() if not k.startswith("val_")})
        if step % EVERY == 0:
            onset.take(step, {k: v for k, v in figures.items() if k.startswith("val_")})
            new = {advice.kind: advice for advice in onset.look()}
            assert not found.keys() & new.keys(), "said twice"
            found |= new
    return found


def hacked() -> Curves:
    """From step 80 on the reward is that of a trick which does not work on held-out prompts."""
    curves = healthy()
    curves["reward_mean"] = curves["reward_mean"] + after(80, 0.2)
    curves["val_compile_rate"] = curves["val_compile_rate"] - after(80, 0.35)
    curves["val_reward"] = curves["val_reward"] - after(80, 0.2)
    return curves


def never_better() -> Curves:
    curves = healthy()
    curves["val_compile_rate"] = np.full(N, 0.35)
    curves["val_reward"] = np.full(N, 0.4)
    return curves


def short() -> Curves:
    curves = healthy()
    curves["completion_length"] = 40.0 - after(60, 32.0)
    curves["val_test_rate"] = curves["test_rate"] = np.full(N, 0.04)
    return curves


def alike() -> Curves:
    return {**healthy(), "entropy": np.maximum(0.7 - after(60, 0.69), 0.005)}


def traded() -> Curves:
    curves = healthy()
    curves["reward_style"] = curves["reward_style"] + after(70, 0.05)
    curves["reward_tests"] = curves["reward_tests"] - after(70, 0.09)
    return curves


LABELLED: dict[str, list[Callable[[], Curves]]] = {
    "reward_hacking": [hacked, never_better],
    "length_collapse": [short],
    "entropy_collapse": [alike],
    "parts_traded": [traded],
}


@pytest.mark.parametrize("kind", LABELLED)
def test_the_onset_of_hacking_is_said_with_figures(kind: str) -> None:
    for make in LABELLED[kind]:
        missed = 0
        for seed in range(SEEDS):
            found = told(drawn(make(), seed))
            assert found.keys() <= {kind}, (make.__name__, seed)
            missed += not found
            for advice in found.values():
                assert sum(letter.isdigit() for letter in advice.evidence) >= 4
        assert missed <= SEEDS // 8, make.__name__


def solved() -> Curves:
    """Held-out code compiles from the first, and cannot get better; the tests do."""
    return {**healthy(), "val_compile_rate": np.full(N, 0.97)}


def stops_learned() -> Curves:
    """Answers become shorter and better: the model learns where one ends."""
    return {**healthy(), "completion_length": rising(120.0, 35.0)}


def nothing_learned() -> Curves:
    flat = {key: np.full(N, values[0]) for key, values in healthy().items()}
    return {**flat, "entropy": np.full(N, 0.7)}


def slow() -> Curves:
    """Held-out code follows late and by less."""
    return {**healthy(), "val_compile_rate": rising(0.35, 0.55, 120.0)}


def unevaluated() -> Curves:
    return {key: values for key, values in healthy().items() if not key.startswith("val_")}


@pytest.mark.parametrize(
    "make", [healthy, solved, stops_learned, nothing_learned, slow, unevaluated]
)
def test_few_false_alarms_on_healthy_runs(make: Callable[[], Curves]) -> None:
    """With twice the noise, too."""
    alarms = [seed for seed in range(SEEDS) if told(drawn(make(), seed, noise=1.0 + seed % 2))]
    assert len(alarms) <= SEEDS // 15


def test_nothing_is_said_too_early_or_of_other_runs() -> None:
    curves = drawn(hacked(), 0)
    assert told(curves, LEAST - 1) == {}
    assert told({}) == {}
    assert told({key: np.full(N, np.nan) for key in curves}) == {}
    assert told({"loss": curves["reward_mean"]}) == {}


def test_steps_that_were_rolled_back_are_forgotten() -> None:
    onset, curves = Onset(), drawn(hacked(), 0)
    for _ in range(3):
        for place in range(100):
            onset.take(place + 1, {key: float(values[place]) for key, values in curves.items()})
    assert onset.look() == [] and onset.look() == []


def test_a_harder_stage_of_a_curriculum_is_not_compared_with_an_easier_one() -> None:
    """Its answers are longer, and fewer are right: that is the plan."""
    onset, curves = Onset(), drawn({**healthy(), **traded()}, 0)
    for place in range(N):
        figures = {key: float(values[place]) for key, values in curves.items()}
        onset.take(place + 1, {**figures, "curriculum_share": 0.8 if place < 120 else 0.7})
    assert onset.look() == [] and onset.look() == []
