"""When weights are predicted, and when a prediction is taken back."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.schema import HybridConfig
from trainer.hybrid.cycle import Cycle
from trainer.hybrid.predictors import PREDICTORS, Situation

CONFIG = HybridConfig(predictor="linear", every=6, correct=2, begin=0.1, rollbacks=2)


def steps_of(losses: Any, steps: int, config: HybridConfig = CONFIG) -> tuple[Cycle, str]:
    """A run of so many steps, as letters: f real, p predicted, a accepted, r rejected."""
    cycle, told = Cycle(), ""
    for step in range(1, steps + 1):
        if cycle.is_due(config, step, steps):
            cycle.predicted(config)
            told += "p"
            continue
        loss = losses(step)
        verdict = cycle.follow(config, loss, finite=math.isfinite(loss))
        told += {"none": "f", "waiting": "w", "accepted": "a", "rejected": "r"}[verdict]
    return cycle, told


def test_a_quiet_run_predicts_every_so_many_steps() -> None:
    cycle, told = steps_of(lambda step: 3 - 0.01 * step, 30)
    assert told == "ffffff" + "pwaffff" * 3 + "pwa"
    assert (cycle.made, cycle.accepted, cycle.rolled_back) == (4, 4, 0)
    assert cycle.confidence == pytest.approx(5 / 6)


@pytest.mark.parametrize("bad", [9.0, math.nan, math.inf])
def test_losses_above_the_band_take_it_back_and_switch_it_off(bad: float) -> None:
    losses = {8: bad, 9: bad, 16: bad, 17: bad}
    cycle, told = steps_of(lambda step: losses.get(step, 3 + 0.01 * (step % 3)), 40)
    assert told.count("r") == 2 and cycle.off
    assert "p" not in told[18:]
    assert cycle.strength == 0.5


def test_nothing_is_predicted_before_begin_after_end_or_last() -> None:
    config = CONFIG.model_copy(update={"begin": 0.5, "end": 0.75})
    _, told = steps_of(lambda step: 3.0, 40, config)
    assert [place + 1 for place, letter in enumerate(told) if letter == "p"] == [21, 28]


@given(st.lists(st.floats(0, 10) | st.just(math.nan), min_size=60, max_size=60))
def test_a_cycle_goes_on_from_what_was_saved(losses: list[float]) -> None:
    cycle, other = Cycle(), Cycle()
    for step, loss in enumerate(losses, start=1):
        saved = vars(other)
        as_it_was = str(saved)
        other = Cycle.read(saved)
        for one in (cycle, other):
            if one.is_due(CONFIG, step, 60):
                one.predicted(CONFIG)
            else:
                one.follow(CONFIG, loss, finite=math.isfinite(loss))
        assert str(saved) == as_it_was  # a checkpoint may still be written from it
        assert str(cycle) == str(other)
        assert cycle.made == cycle.accepted + cycle.rolled_back + bool(cycle.left)


def test_after_a_rollback_as_many_steps_come_as_after_a_prediction() -> None:
    _, told = steps_of(lambda step: 100.0 if step in (8, 9) else 3 + 0.01 * (step % 3), 24)
    assert told.startswith("ffffff" + "pwr" + "ffffff" + "pwa")


@pytest.mark.parametrize("name", PREDICTORS)
def test_a_predictor_changes_every_tensor_and_follows_a_straight_line(name: str) -> None:
    predictor = PREDICTORS[name]
    start = [torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    speed = [torch.randn_like(x) for x in start]
    weights = [x.clone() for x in start]
    kept = {"anchor": [x.clone() for x in start]}
    kept |= {key: [torch.zeros_like(x) for x in start] for key in predictor.keeps}
    for step in range(1, 8):
        torch._foreach_add_(weights, speed)
        if predictor.observe:
            predictor.observe(weights, kept, step)
    reached = [x.clone() for x in weights]
    predictor.predict(weights, kept, Situation(7, 0.5, 0.4, 0.5))
    for x, before, v in zip(weights, reached, speed, strict=True):
        assert not torch.equal(x, before)
        moved = x - before
        # Along the line, in the direction of travel or back (a Nesterov step below 1).
        share = (moved / v).flatten()
        torch.testing.assert_close(share, share[:1].expand_as(share))
    expected = {"linear": 7 * 0.4, "regression": 7 * 0.4, "ema_nesterov": 7 * 0.5 * 0.4 * 0.5,
                "outer_nesterov": 7 * (0.4 * 1.5 - 1)}  # fmt: skip
    torch.testing.assert_close((weights[1] - reached[1]) / speed[1],
                               torch.full_like(speed[1], expected[name]))  # fmt: skip
