from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.optim import OptimConfig
from trainer.config.resolve import load_source, resolve
from trainer.optim.schedule import learning_rate

PEAK = 6e-4
optims = st.builds(
    OptimConfig,
    learning_rate=st.just(PEAK),
    min_lr=st.none() | st.floats(0, PEAK),
    schedule=st.sampled_from(["cosine", "wsd", "constant"]),
    warmup_steps=st.integers(0, 300),
    decay_start=st.floats(0, 1),
)


def rates(max_steps: int, **optim: Any) -> list[float]:
    """The rates of steps 1 … max_steps."""
    config = OptimConfig(**{"learning_rate": PEAK, **optim})
    return [learning_rate(config, step, max_steps) for step in range(1, max_steps + 1)]


def test_the_guides_warmup() -> None:
    optim = OptimConfig(learning_rate=6e-4, warmup_steps=1000)
    assert learning_rate(optim, 10, 50_000) == pytest.approx(6e-6, rel=1e-12)
    assert learning_rate(optim, 0, 50_000) == 0
    assert learning_rate(optim, 1000, 50_000) == 6e-4


def test_cosine_ends_at_min_lr_and_is_halfway_in_the_middle() -> None:
    optim = OptimConfig(learning_rate=6e-4, min_lr=6e-5, warmup_steps=1000)
    assert learning_rate(optim, 50_000, 50_000) == pytest.approx(6e-5, rel=1e-12)
    assert learning_rate(optim, 25_500, 50_000) == pytest.approx((6e-4 + 6e-5) / 2)
    assert learning_rate(optim, 60_000, 50_000) == pytest.approx(6e-5)  # a run made longer later


def test_without_min_lr_the_end_is_a_tenth() -> None:
    for schedule in ("cosine", "wsd"):
        assert rates(100, schedule=schedule, warmup_steps=5)[-1] == pytest.approx(0.1 * PEAK)


def test_wsd_decays_in_a_line_over_the_last_60_percent() -> None:
    steps = rates(1000, schedule="wsd", warmup_steps=100)
    assert steps[99:400] == [PEAK] * 301
    assert steps[699] == pytest.approx(0.55 * PEAK)


def test_the_guides_wsd_is_stable_to_80_percent() -> None:
    optim = resolve(load_source("d20")[0]).optim.model_dump()
    steps = rates(1000, **{**optim, "learning_rate": PEAK, "min_lr": None, "warmup_steps": 100})
    assert steps[99:800] == [PEAK] * 701
    assert steps[800] < PEAK
    middle = 0.1 * PEAK + 0.9 * PEAK * 0.5 * (1 + math.cos(math.pi / 2))
    assert steps[899] == pytest.approx(middle)


def test_constant_stays() -> None:
    assert rates(50, schedule="constant", warmup_steps=10)[9:] == [PEAK] * 41


def test_no_warmup_starts_at_the_peak() -> None:
    for schedule in ("cosine", "wsd", "constant"):
        first = rates(100, schedule=schedule, warmup_steps=0)[0]
        assert first == pytest.approx(PEAK, rel=1e-3)


@given(optim=optims, max_steps=st.integers(1, 500))
def test_up_during_the_warmup_and_never_up_again(optim: OptimConfig, max_steps: int) -> None:
    series = [learning_rate(optim, step, max_steps) for step in range(max_steps + 1)]
    floor = PEAK / 10 if optim.min_lr is None else optim.min_lr
    for step, (before, after) in enumerate(itertools.pairwise(series), start=1):
        if step <= optim.warmup_steps:
            assert after > before
        else:
            assert after <= before
            assert after >= floor * (1 - 1e-9)
    assert max(series) <= PEAK
    # Pure: asking in another order gives the same.
    backwards = [learning_rate(optim, step, max_steps) for step in range(max_steps, -1, -1)]
    assert backwards[::-1] == series
