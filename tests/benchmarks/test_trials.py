"""The ablations choose and repeat as a sweep does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from benchmarks import growth, hybrid, optimizer_ablations, study
from benchmarks.trials import Settings, apart, mean, points_of, repeat, tune


@dataclass(frozen=True)
class Trained:
    loss: float
    settings: dict[str, Any]


def train(settings: Settings) -> Trained:
    loss = math.nan if settings["rate"] > 2 else abs(settings["rate"] - 0.5)
    return Trained(loss + settings["train.seed"], dict(settings))


def test_the_lowest_loss_is_chosen_and_never_nan() -> None:
    tuned = tune(points_of("rate", (9.0, 1.0, 0.4, 0.1)), 7, train)
    assert tuned.settings == {"rate": 0.4}
    assert tuned.result.settings == {"rate": 0.4, "train.seed": 7}
    assert [settings["rate"] for settings, _ in tuned.tried] == [9.0, 1.0, 0.4, 0.1]


def test_seeds_are_paired() -> None:
    ours, theirs = (repeat({"rate": rate}, (1, 2, 3), train) for rate in (1.5, 0.5))
    assert [one.settings["train.seed"] for one in ours] == [1, 2, 3]
    assert apart(ours, theirs) == [1.0, 1.0, 1.0]
    assert mean([one.loss for one in ours]) == 3.0
    assert repeat({"rate": 1.0}, (), train) == []
    assert math.isnan(mean([]))


def test_each_arm_chooses_its_rate_on_a_seed_of_its_own() -> None:
    seen: list[Settings] = []

    def trained(settings: Settings) -> optimizer_ablations.Trained:
        seen.append(settings)
        rate, seed = settings["optim.learning_rate"], settings["train.seed"]
        return optimizer_ablations.Trained(abs(rate - 0.006) + seed, cpu=2.0)

    found = optimizer_ablations.measure("optimizers", trained, 5, 2)
    assert "AdamW chose the rate 0.006 (0.003: 0.003, 0.006: 0.000, 0.012: 0.006)." in found.notes
    assert "Lion against AdamW: +0.0048, better in 0 of 2." in found.notes
    assert [row.value for row in found.rows][:2] == [1.5, 2.0]
    of_adamw = [s["train.seed"] for s in seen if s["optim.name"] == "adamw"]
    assert of_adamw == [0, 0, 0, 1, 2]
    assert {s["train.max_steps"] for s in seen} == {5}


def made_up(settings: Settings) -> study.Trained:
    """A training whose loss is told by its seed, and whose cost by its kind."""
    grows, predicts = "growth.stages" in settings, "hybrid.predictor" in settings
    return study.Trained(
        loss=settings["train.seed"] + (0.5 if grows or predicts else 1.0),
        cpu=5.0 if grows else 20.0 if predicts else 10.0,
        flops=2.0 if grows else 10.0,
        backward=100,
        predicted=4 if predicts else 0,
        rolled_back=1 if predicts else 0,
    )


def test_growth_is_compared_at_equal_arithmetic_and_equal_time() -> None:
    seen: list[Settings] = []
    found = growth.measure("muon", lambda s: seen.append(s) or made_up(s), 100, 3)
    assert "Equal FLOPs are 20 steps, equal time 50." in found.notes
    assert "late growth against scratch, equal FLOPs: -0.5000, better in 3 of 3." in found.notes
    assert {s["train.max_steps"] for s in seen} == {100, 20, 50}
    assert all(s["optim.rest_learning_rate"] == 2 * s["optim.learning_rate"] for s in seen)
    assert len([s for s in seen if s["train.seed"] == 0]) == 9  # three trials of three arms


def test_predictions_are_compared_at_equal_backward_passes_and_equal_time() -> None:
    seen: list[Settings] = []
    found = hybrid.measure("adamw", lambda s: seen.append(s) or made_up(s), 200, 5)
    assert {s["train.max_steps"] for s in seen} == {200, 209, 400}
    assert "outer_nesterov against plain: -0.5000, better in 5 of 5." in found.notes
    assert "skip only against plain: +0.0000, better in 0 of 5." in found.notes
    rows = {row.what: row.value for row in found.rows}
    assert rows["linear: predicted"] == 4 and "plain: predicted" not in rows
