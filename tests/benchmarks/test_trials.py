"""The ablations choose and repeat as a sweep does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import optimizer_ablations
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

    def trained(settings: Settings, _text: Path) -> optimizer_ablations.Trained:
        seen.append(settings)
        rate, seed = settings["optim.learning_rate"], settings["train.seed"]
        return optimizer_ablations.Trained(abs(rate - 0.006) + seed, cpu=2.0)

    found = optimizer_ablations.measure("optimizers", Path("text"), 5, 2, trained)
    assert "AdamW chose the rate 0.006 (0.003: 0.003, 0.006: 0.000, 0.012: 0.006)." in found.notes
    assert "Lion against AdamW: +0.0048, better in 0 of 2." in found.notes
    assert [row.value for row in found.rows][:2] == [1.5, 2.0]
    of_adamw = [s["train.seed"] for s in seen if s["optim.name"] == "adamw"]
    assert of_adamw == [0, 0, 0, 1, 2]
    assert {s["train.max_steps"] for s in seen} == {5}
