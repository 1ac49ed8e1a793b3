"""Advice from labelled curves: what is wrong is said, and little where nothing is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from shared.run.advice import advise
from shared.run.metrics_rows import Series

N = 2000
T = np.arange(1, N + 1)
Floats = np.ndarray


def series(key: str, values: Floats, every: int = 1) -> Series:
    steps = T[every - 1 :: every][: len(values)]
    return Series(key, steps.astype(np.int64), np.asarray(values, float))


def kinds(loss: Floats, **others: Series) -> set[str]:
    return {advice.kind for advice in advise(series("loss", loss), **others)}


def falling(seed: int, noise: float = 0.05) -> Floats:
    """A healthy loss: a power law with noise like that of batches."""
    rng = np.random.default_rng(seed)
    return 2.0 + 6.0 * T**-0.35 + rng.normal(0, noise, N)


def spiky(seed: int) -> Floats:
    loss = falling(seed)
    loss[[1700, 1800, 1900, 1950]] += 2.0
    return loss


def diverging(seed: int) -> Floats:
    return falling(seed) + np.where(T > 1500, 0.003 * (T - 1500), 0)


def flat(seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return 2.4 + 3.0 * np.exp(-T / 150) + rng.normal(0, 0.03, N)


LABELLED: dict[str, Callable[[int], Floats]] = {
    "spikes": spiky,
    "diverging": diverging,
    "plateau": flat,
}


@pytest.mark.parametrize("kind", LABELLED)
def test_what_is_wrong_is_said_with_figures(kind: str) -> None:
    for seed in range(20):
        (advice,) = advise(series("loss", LABELLED[kind](seed)))
        assert advice.kind == kind
        assert any(letter.isdigit() for letter in advice.evidence)


def test_few_false_alarms_on_healthy_curves() -> None:
    alarms = 0
    shapes: list[Callable[[int], Floats]] = [
        falling,
        lambda seed: falling(seed, 0.3),
        lambda seed: falling(seed, 0.005),
        lambda seed: falling(seed) - np.where(T > 1600, 0.0005 * (T - 1600), 0),  # decay
        lambda seed: falling(seed) + 0.1 * np.sin(T / 40),  # data that comes in turns
        lambda seed: np.exp(falling(seed, 0.02)) / 8,
    ]
    for shape in shapes:
        for seed in range(50):
            rng = np.random.default_rng(seed)
            held = falling(seed, 0.01)[99::100] + 0.05
            alarms += bool(
                kinds(
                    shape(seed),
                    validation=series("val_loss", held, 100),
                    throughput=series("tokens_per_second", rng.normal(1000, 80, N)),
                )
            )
    assert alarms <= 3  # of 300


HARD: dict[str, Callable[[np.random.Generator], Floats]] = {
    "hard documents": lambda rng: falling(1) + (rng.random(N) < 0.01),
    "a hard source": lambda rng: falling(2) + 0.8 * (rng.random(N) < 0.1),
    "skewed": lambda rng: 2.0 + 6.0 * T**-0.35 + rng.lognormal(-3.5, 1, N),
    "fine-tuning": lambda rng: 1.9 - 0.006 * np.log(T) + rng.normal(0, 0.15, N),
    "preferences": lambda rng: 0.69 * np.exp(-T / 2000) + rng.normal(0, 0.08, N),
}


@pytest.mark.parametrize("name", HARD)
def test_hard_data_is_no_fault_of_the_run_whenever_one_looks(name: str) -> None:
    alarms = 0
    for seed in range(20):
        loss = HARD[name](np.random.default_rng(seed))
        found = [kinds(loss[:length]) for length in range(200, N + 1, 200)]
        alarms += any(kind & {"spikes", "diverging"} for kind in found)
    assert alarms <= 1  # of 20 runs


def test_a_gap_that_grows_is_overfitting() -> None:
    for seed in range(20):
        held = np.concatenate([falling(seed, 0.005)[99:900:100], 2.7 + 0.02 * np.arange(11)])
        found = kinds(falling(seed), validation=series("val_loss", held, 100))
        assert found == {"overfitting"}


def test_throughput_that_falls_is_told() -> None:
    rng = np.random.default_rng(1)
    speed = rng.normal(1000, 50, N)
    speed[-150:] *= 0.5
    assert kinds(falling(1), throughput=series("tokens_per_second", speed)) == {"slower"}
    assert kinds(falling(1), throughput=series("tokens_per_second", speed[:-150])) == set()


def test_a_machine_that_is_busy_for_a_moment_is_not_told() -> None:
    for length in (200, 300, N):
        speed = np.random.default_rng(2).normal(1000, 50, length)
        speed[-15:] *= 0.4
        loss = series("loss", falling(1)[:length])
        assert not advise(loss, throughput=series("tokens_per_second", speed))


def test_no_plateau_while_the_rate_changes_or_the_validation_falls() -> None:
    rate = np.where(T > 1500, 1 - (T - 1500) / 500, 1.0)
    assert not kinds(flat(1), learning_rate=series("learning_rate", rate))
    held = np.linspace(3.0, 2.5, 20)
    assert not kinds(flat(1), validation=series("val_loss", held, 100))


@pytest.mark.parametrize("loss", [np.zeros(N), np.full(N, np.nan), np.full(N, 1e300), T * 0.0 + 5])
def test_odd_curves_raise_nothing(loss: Floats) -> None:
    advise(series("loss", loss), validation=series("val_loss", loss[99::100], 100),
           throughput=series("tokens_per_second", loss))  # fmt: skip
    advise(series("loss", loss[:3]))
