"""Scales: usable for any values, logarithmic where that helps, outliers left outside or not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.charts.reduce import Envelope, reduce
from shared.charts.scale import ValueScale, choose_range
from shared.charts.smoothing import MovingAverage
from shared.run.metrics_rows import Series
from tests.shared.charts.making import any_series, step_range


def envelope(values: object) -> Envelope:
    array = np.asarray(values, np.float64)
    return reduce(Series("x", np.arange(len(array)), array), 100, 0, len(array) - 1)


@given(st.lists(any_series(), max_size=2), st.booleans())
def test_a_range_is_always_usable(found: list[Series], whole: bool) -> None:
    steps = step_range(found) or (0, 1)
    low, high = choose_range([reduce(s, 60, *steps) for s in found], whole=whole)
    assert math.isfinite(low)
    assert math.isfinite(high)
    assert low < high


@given(
    st.lists(any_series(), max_size=2),
    st.sampled_from([None, False, True]),
    st.booleans(),
    st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=20),
)
def test_greater_values_never_lie_lower(
    found: list[Series], log: bool | None, whole: bool, values: list[float]
) -> None:
    steps = step_range(found) or (0, 1)
    scale = ValueScale.fit([reduce(s, 60, *steps) for s in found], log=log, whole=whole)
    places = scale.place(np.array(sorted(values)))
    assert all(a <= b for a, b in itertools.pairwise(places.tolist()))


@given(st.lists(any_series(), min_size=1, max_size=2), st.sampled_from([None, False]))
def test_a_whole_scale_leaves_nothing_outside(found: list[Series], log: bool | None) -> None:
    steps = step_range(found) or (0, 1)
    envelopes = [reduce(s, 60, *steps) for s in found]
    scale = ValueScale.fit(envelopes, log=log, whole=True)
    for one in envelopes:
        for values in (one.low, one.high):
            places = scale.place(values[np.isfinite(values)])
            assert ((places >= -1e-9) & (places <= 1 + 1e-9)).all()


@pytest.mark.parametrize(
    ("values", "log"),
    [([100.0, 10.0, 1.0], True), ([3.0, 2.0, 1.0], False), ([100.0, 1.0, 0.0], False), ([], False)],
)
def test_the_values_choose_the_scale(values: list[float], log: bool) -> None:
    assert ValueScale.fit([envelope(values)], log=None).log is log


def test_an_outlier_is_left_outside_unless_the_scale_is_whole() -> None:
    values = np.linspace(3, 2, 1000)
    values[500] = 1e6
    low, high = choose_range([envelope(values)])
    assert 2.9 < high < 4
    assert low < 2
    assert choose_range([envelope(values)], whole=True)[1] > 1e6


def test_a_steep_beginning_is_no_outlier() -> None:
    _, high = choose_range([envelope(1.5 + 9 * np.exp(-np.arange(1000) / 100))])
    assert high > 10


@given(st.floats(-300, 300), st.floats(0.02, 0.999), st.integers(1, 12))
def test_a_logarithmic_scale_of_less_than_a_decade_has_ticks(
    power: float, decades: float, count: int
) -> None:
    ticks, labels = ValueScale(power, power + decades, log=True).ticks(count)
    assert len(ticks) >= 2
    assert len(set(labels)) == len(labels)


@given(st.floats(-1e9, 1e9), st.sampled_from([0.5, 0.9, 0.99, 0.999]), st.integers(1, 300))
def test_a_smoothed_constant_is_constant(value: float, weight: float, count: int) -> None:
    average = MovingAverage(weight)
    found = np.concatenate([average.extend(np.full(n, value)) for n in (count, 7, 100)])
    assert (found == value).all()


def test_what_is_only_rounding_is_drawn_as_a_constant() -> None:
    values = np.array([0.1, 0.1 + 1.4e-17, 0.30000000000000004 - 0.2])
    low, high = choose_range([envelope(values)])
    assert high - low > 0.005


def test_values_near_the_largest_float_are_told_apart() -> None:
    values = np.array([-5e307, 1e301, 5e307])
    scale = ValueScale.fit([envelope(values)])
    places = scale.place(values)
    assert np.isfinite(places).all()
    assert places[0] < places[1] - 0.3 < places[2] - 0.6
