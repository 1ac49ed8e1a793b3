"""Which columns stand out: the bad step always, noise and falling curves never."""

from __future__ import annotations

import numpy as np
import pytest

from shared.charts.reduce import reduce
from shared.charts.spikes import spikes
from shared.run.metrics_rows import Series

N = 1_000_000
WIDTHS = [20, 33, 48, 80, 111, 160, 200, 320, 400]


def noisy(seed: int = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.1, N)
    return 2 + 6 * np.exp(-np.arange(N) / 60_000) + noise


CURVE = noisy()


def columns(values: np.ndarray, width: int, first: int = 0, last: int = N - 1) -> list[int]:
    series = Series("loss", np.arange(len(values)), values)
    found, _, _ = spikes(reduce(series, 2 * width, first, last))
    return np.flatnonzero(found).tolist()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("at", "height"), [(612_345, 5.0), (999_000, 5.0), (700_001, -3.0)])
def test_one_bad_step_in_a_million_stands_out(width: int, at: int, height: float) -> None:
    values = CURVE.copy()
    values[at] += height
    assert columns(values, width) == [at * 2 * width // N]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("zoom", [10**k for k in range(1, 6)])
def test_at_every_zoom(width: int, zoom: int) -> None:
    values = CURVE.copy()
    values[612_345] += 5.0
    span = N // zoom
    first = 612_345 - 2 * span // 3
    found = columns(values, width, first, first + span - 1)
    if span >= 100:  # fewer values have no neighbours to be compared with
        assert len(found) == 1
        edge = (612_345 - first) * 2 * width // span
        assert abs(found[0] - edge) <= 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "curve",
    [
        CURVE,
        np.linspace(9, 1, N),
        10 / (1 + np.arange(N) / 1000),
        np.full(N, 3.0),
        np.where(np.arange(N) < N // 2, 1.0, 5.0),
        np.random.default_rng(0).normal(0, 1, N),
    ],
    ids=["noisy", "line", "hyperbola", "constant", "jump", "noise"],
)
def test_a_sound_curve_has_none(width: int, curve: np.ndarray) -> None:
    assert columns(curve, width) == []


def test_what_happens_all_the_time_is_no_spike() -> None:
    values = CURVE.copy()
    values[::20_000] += 5.0
    assert columns(values, 200) == []


def test_few_points_have_none() -> None:
    assert columns(np.array([1.0, 9.0, 1.0]), 80, 0, 2) == []
    assert columns(np.array([]), 80, 0, 2) == []
