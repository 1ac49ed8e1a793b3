"""Time and tokens as x: always rising, nothing dropped, what was bent is counted."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.data.positions import Positions, rising
from shared.run.metrics_rows import Series
from tests.monitor.support import series

clocks = st.lists(
    st.one_of(st.floats(0, 1e9), st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308])),
    max_size=80,
)


@given(clocks)
def test_an_axis_always_rises(times: list[float]) -> None:
    x = np.array(times)
    found, moved = rising(x)
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    assert np.isfinite(np.ptp(found)) if times else True
    assert moved == (found != x).sum() or not (np.abs(x) <= 1e300).any()


def test_one_absurd_time_bends_only_itself() -> None:
    times = np.arange(100.0)
    for at, bad in ((0, 1e18), (40, 1e18), (60, 0.0), (99, -5.0), (50, math.nan)):
        broken = times.copy()
        broken[at] = bad
        found, moved = rising(broken)
        assert moved == 1
        assert np.delete(found, at).tolist() == np.delete(times, at).tolist()


def test_a_clock_set_back_holds_the_axis_until_it_has_caught_up() -> None:
    found, moved = rising(np.array([0.0, 10, 20, 30, 25, 35, 45]))
    assert found.tolist() == [0, 10, 20, 30, 30, 35, 45]
    assert moved == 1


mostly_rising = st.tuples(clocks, st.booleans()).map(
    lambda drawn: sorted(x for x in drawn[0] if math.isfinite(x)) if drawn[1] else drawn[0]
)


@settings(max_examples=200, deadline=None)
@given(mostly_rising, st.lists(st.integers(1, 30), max_size=6), st.integers(1, 9))
def test_growing_gives_what_the_whole_gives(
    times: list[float], batches: list[int], every: int
) -> None:
    axis, values = series("time", times), series("val", np.zeros(20), every)
    grown, size = Positions(), 0
    for batch in (*batches, len(times)):
        size = min(len(times), size + batch)
        grown.update(Series("time", axis.steps[:size], axis.values[:size]))
        grown.of(values)
    whole = Positions()
    whole.update(axis)
    assert grown.moved == whole.moved
    one, other = grown.of(values), whole.of(values)
    assert (one is None and other is None) or np.array_equal(one, other)


def test_steps_without_a_time_lie_between_their_neighbours() -> None:
    positions = Positions()
    assert positions.of(series("x", [1.0])) is None
    assert positions.range is None
    positions.update(Series("time", np.array([10, 20]), np.array([100.0, 300.0])))
    assert positions.range == (100.0, 300.0)
    x = positions.of(Series("x", np.array([0, 10, 15, 20, 99]), np.zeros(5)))
    assert x is not None
    assert x.tolist() == [100, 100, 200, 300, 300]


def test_a_series_on_the_axis_itself_is_not_copied() -> None:
    positions = Positions()
    axis = series("time", np.arange(1000.0))
    positions.update(axis)
    x = positions.of(Series("loss", axis.steps[:700], np.zeros(700)))
    assert x is not None
    assert len(x) == 700
    assert x.base is not None
