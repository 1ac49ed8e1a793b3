"""The reduction must keep every extreme and every non-finite value, at any width."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.charts.reduce import (
    HUGE,
    NAN,
    NEGATIVE,
    POSITIVE,
    reduce,
)
from shared.run.metrics_rows import Series
from tests.shared.charts.making import any_series, step_range


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
