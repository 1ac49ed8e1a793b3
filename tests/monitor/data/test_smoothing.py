"""The moving average is that of every value, however it arrived."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.data.smoothing import Smoother
from shared.charts.smoothing import MAX_WEIGHT, line_between, moving_average
from tests.monitor.support import series


def one_by_one(values: list[float], weight: float) -> list[float]:
    """The definition, in a loop."""
    moving, count, found, newest = 0.0, 0, [], math.nan
    for value in values:
        if math.isfinite(value):
            count += 1
            moving = weight * moving + (1 - weight) * value
            newest = moving / (1 - weight**count)
        found.append(newest)
    return found


weights = st.one_of(st.floats(0, MAX_WEIGHT), st.sampled_from([0.0, 0.6, 0.99, 0.999]))
values = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([0.0, math.nan, math.inf, -math.inf, 1e-300])
)


@settings(deadline=None)
@given(st.lists(values, max_size=300), weights, st.lists(st.integers(1, 80), max_size=8))
def test_it_is_the_definition_however_it_arrives(
    found: list[float], weight: float, batches: list[int]
) -> None:
    whole = series("x", found)
    smoother, size = Smoother(weight), 0
    for batch in (*batches, len(found)):
        size = min(len(found), size + batch)
        part = series("x", whole.values[:size])
        smooth = smoother.update(part)
        assert smooth.steps is part.steps
    largest = max((abs(v) for v in found if math.isfinite(v)), default=1.0)
    np.testing.assert_allclose(
        smooth.values, one_by_one(found, weight), rtol=1e-9, atol=1e-10 * largest + 1e-300
    )


def test_a_constant_stays_what_it_is_from_the_first_value_on() -> None:
    smooth = Smoother(0.999).update(series("x", np.full(200_000, 2.5))).values
    np.testing.assert_allclose(smooth, 2.5, rtol=1e-12)


def test_the_largest_numbers_do_not_overflow() -> None:
    smooth = Smoother(0.9).update(series("x", [1.7e308] * 100)).values
    assert np.isfinite(smooth).all()


def test_a_mended_series_is_smoothed_anew() -> None:
    smoother = Smoother(0.5)
    before = smoother.update(series("x", np.arange(100.0))).values
    copy = before.copy()
    mended = np.concatenate((np.arange(50.0), np.zeros(80)))
    after = smoother.update(series("x", mended)).values
    np.testing.assert_allclose(after, one_by_one(mended.tolist(), 0.5))
    assert np.array_equal(before, copy)


def test_a_longer_average_continues_a_shorter_one() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=5000)
    np.testing.assert_allclose(
        moving_average(values, 0.97)[3000:],
        moving_average(values[3000:], 0.97, start=moving_average(values[:3000], 0.97)[-1]),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("weight", [-0.1, 1.0, 2.0, math.nan])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="smoothing weight"):
        Smoother(weight)


def test_a_line_does_not_depend_on_the_number_of_columns() -> None:
    smooth = Smoother(0.9).update(series("x", np.arange(1000.0))).values
    coarse = line_between(smooth, np.array([0, 500, 500, 1000]))
    fine = line_between(smooth, np.arange(0, 1001, 10))
    assert coarse[0] == fine[49]
    assert math.isnan(coarse[1])
    assert coarse[2] == fine[-1] == smooth[-1]
