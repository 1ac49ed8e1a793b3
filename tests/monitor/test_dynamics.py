"""Slope, gap, spikes: what the last window of a run says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monitor.data.views import RunDetail
from monitor.dynamics import MAX_WINDOW, MIN_WINDOW, Dynamics, dynamics
from shared.run.records import PhaseTransition
from tests.monitor.support import series


def detail(loss: object, val: object = (), every: int = 1, **more: object) -> RunDetail:
    others = {key: series(key, values) for key, values in more.items()}
    return RunDetail("r", series("loss", loss), series("val_loss", val, every), series=others)


def test_nothing_is_known_of_nothing() -> None:
    assert dynamics(detail(())) == Dynamics()
    one = dynamics(detail((2.0,)))
    assert (one.mean, one.slope, one.trend) == (2.0, None, "")


def test_the_slope_is_per_thousand_steps_of_the_last_tenth() -> None:
    loss = np.concatenate([np.linspace(9, 3, 9000), 3 - 0.0005 * np.arange(1000)])
    found = dynamics(detail(loss))
    assert found.values == 1000
    assert found.slope == pytest.approx(-0.5)
    assert found.noise == pytest.approx(0, abs=1e-9)
    assert found.trend == "falling"


@pytest.mark.parametrize(("slope", "trend"), [(0.0, "level"), (0.01, "rising"), (-0.01, "falling")])
def test_noise_is_no_trend(slope: float, trend: str) -> None:
    rng = np.random.default_rng(3)
    loss = 2 + slope * np.arange(500) + rng.normal(0, 0.05, 500)
    assert dynamics(detail(loss)).trend == trend


def test_the_gap_is_against_the_training_loss_around_the_evaluation() -> None:
    found = dynamics(detail(np.full(401, 2.0), [2.1, 2.2, 2.5], every=200))
    assert found.gap == pytest.approx(0.5)
    assert found.gap_before == pytest.approx(0.2)
    assert found.val_step == 400


def test_spikes_and_numbers_that_are_none() -> None:
    rng = np.random.default_rng(1)
    loss = 2 + rng.normal(0, 0.01, 400)
    loss[390], loss[395], loss[10] = 9.0, np.nan, 50.0
    found = dynamics(detail(loss))
    assert found.spikes == ((390, 9.0),)
    assert found.nonfinite == 1


def test_the_gradient_norm_of_the_window() -> None:
    norms = np.ones(200)
    norms[180], norms[20] = 7.0, 99.0
    found = dynamics(detail(np.ones(200), gradient_norm=norms))
    assert (found.gradient_norm, found.gradient_median) == (1.0, 1.0)
    assert (found.gradient_max, found.gradient_max_step) == (7.0, 180)


@pytest.mark.parametrize(
    "loss",
    [np.full(100, np.nan), np.full(100, np.inf), np.full(100, 1e308), np.full(3, 0.0),
     np.array([np.nan, 1.0, np.inf, -np.inf, 1e-320] * 30)],
)  # fmt: skip
def test_odd_values_are_survived(loss: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        found = dynamics(detail(loss, loss[:3], gradient_norm=loss))
    assert found.values == min(len(loss), max(MIN_WINDOW, len(loss) // 10))


def test_a_long_run_costs_no_more() -> None:
    assert dynamics(detail(np.ones(1_000_000))).values == MAX_WINDOW


def test_they_are_of_the_main_metric_that_was_chosen() -> None:
    found = detail(np.ones(400), accuracy=np.linspace(0, 1, 400), eval_accuracy=[0.0, 0.5])
    assert dynamics(found).key == "loss"
    chosen = dynamics(found, "accuracy")
    assert (chosen.key, chosen.trend) == ("accuracy", "rising")
    assert chosen.val_step == 1, "the gap is to its own evaluation"
    assert dynamics(found, "reward").key == "loss", "another run may lack it"


def test_the_curves_suggest_something() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, 3000)
    level = detail(2.4 + 3 * np.exp(-np.arange(3000) / 150) + noise)
    assert [advice.kind for advice in dynamics(level).advice] == ["plateau"]
    falling = detail(2 + 6 * np.arange(1, 3001) ** -0.35 + noise)
    assert not dynamics(falling).advice


def test_a_stage_with_a_larger_model_is_not_a_slow_machine() -> None:
    speed = np.where(np.arange(3000) < 1800, 1000.0, 300.0)
    slow = detail(2 + 6 * np.arange(1, 3001) ** -0.35, tokens_per_second=speed)
    assert [advice.kind for advice in dynamics(slow).advice] == ["slower"]
    for name in ("12m", "full"):  # where the last stage has no name of its own
        changes = (
            PhaseTransition(1, "", "warmup", 0.0),
            PhaseTransition(100, "warmup", "2-layers", 0.0),
            PhaseTransition(1801, "2-layers", name, 0.0),
        )
        assert not dynamics(replace(slow, transitions=changes)).advice
    same = (PhaseTransition(1, "", "warmup", 0.0), PhaseTransition(1801, "warmup", "full", 0.0))
    assert dynamics(replace(slow, transitions=same)).advice
