"""The reduction must keep every extreme and every non-finite value, at any width."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.data.envelope import (
    HUGE,
    NAN,
    NEGATIVE,
    POSITIVE,
    choose_scale,
    nice_ticks,
    reduce,
    step_range,
)
from shared.run.metrics_rows import Series

floats = st.floats(allow_nan=True, allow_infinity=True, width=64)


@st.composite
def any_series(draw: st.DrawFn) -> Series:
    gaps = draw(st.lists(st.integers(1, 1 << 40), max_size=80))
    values = draw(st.lists(floats, min_size=len(gaps), max_size=len(gaps)))
    return Series("x", np.cumsum(np.array(gaps, np.int64)), np.array(values, np.float64))


@given(any_series(), st.integers(1, 90))
def test_every_column_holds_the_extremes_of_its_steps(found: Series, columns: int) -> None:
    steps = step_range([found])
    if steps is None:
        assert reduce(found, columns, 0, 10).is_empty
        return
    first, last = steps
    envelope = reduce(found, columns, first, last)
    finite = np.clip(found.values[np.isfinite(found.values)], -HUGE, HUGE)
    assert envelope.nonfinite == len(found) - len(finite)
    if len(finite):
        assert np.nanmin(envelope.low) == finite.min()
        assert np.nanmax(envelope.high) == finite.max()
    else:
        assert np.isnan(envelope.low).all()
    marked = int(np.bitwise_or.reduce(envelope.marks))
    assert bool(marked & NAN) == bool(np.isnan(found.values).any())
    assert bool(marked & POSITIVE) == bool((found.values == np.inf).any())
    assert bool(marked & NEGATIVE) == bool((found.values == -np.inf).any())


@pytest.mark.parametrize("bad", [50.0, -50.0, math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 123_457, 999_999])
def test_one_bad_step_in_a_million_is_kept(bad: float, at: int) -> None:
    values = np.ones(1_000_000)
    values[at] = bad
    envelope = reduce(Series("loss", np.arange(1_000_000), values), 140, 0, 999_999)
    column = at * 140 // 1_000_000
    if math.isfinite(bad):
        assert bad in (envelope.low[column], envelope.high[column])
    else:
        assert envelope.marks[column]
        assert envelope.nonfinite == 1


def test_only_the_steps_asked_for_count() -> None:
    found = Series("x", np.array([1, 5, 9]), np.array([1.0, np.nan, 3.0]))
    envelope = reduce(found, 4, 6, 9)
    assert envelope.nonfinite == 0
    assert np.nanmax(envelope.high) == 3.0
    assert np.nanmin(envelope.low) == 3.0


@given(st.lists(any_series(), max_size=2))
def test_a_scale_is_always_usable(found: list[Series]) -> None:
    steps = step_range(found) or (0, 1)
    scale = choose_scale([reduce(s, 60, *steps) for s in found])
    assert math.isfinite(scale.low)
    assert math.isfinite(scale.high)
    assert scale.low < scale.high
    for tick in nice_ticks(scale.low, scale.high, 6):
        assert scale.low <= tick <= scale.high


def test_an_outlier_is_left_outside_but_told() -> None:
    values = np.linspace(3, 2, 1000)
    values[500] = 1e6
    scale = choose_scale([reduce(Series("x", np.arange(1000), values), 100, 0, 999)])
    assert scale.above
    assert not scale.below
    assert scale.high < 4


def test_a_steep_beginning_is_no_outlier() -> None:
    values = 1.5 + 9 * np.exp(-np.arange(1000) / 100)
    scale = choose_scale([reduce(Series("x", np.arange(1000), values), 100, 0, 999)])
    assert not scale.above
    assert scale.high > 10


def test_ticks_are_round() -> None:
    assert nice_ticks(0.3, 10.9, 5) == [2, 4, 6, 8, 10]
    assert nice_ticks(0, 1000, 5) == [0, 200, 400, 600, 800, 1000]
    assert nice_ticks(1, 1, 5) == []
