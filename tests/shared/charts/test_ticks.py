"""Ticks are round, rise, lie within the axis, are few, and no two have the same label."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from shared.charts.labels import tick_labels
from shared.charts.scale import ValueScale
from shared.charts.ticks import nice_ticks, time_ticks

any_float = st.floats(-1e300, 1e300)


@given(any_float, any_float, st.integers(1, 40))
def test_ticks_rise_within_the_axis_and_are_few(a: float, b: float, count: int) -> None:
    low, high = sorted((a, b))
    ticks = nice_ticks(low, high, count)
    assert all(low <= t <= high for t in ticks)
    assert all(x < y for x, y in itertools.pairwise(ticks))
    assert len(ticks) <= count + 2


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 10), st.integers(1, 12))
def test_labels_tell_ticks_apart(low: float, share: float, count: int) -> None:
    high = low + share * max(1.0, abs(low))
    labels = tick_labels(nice_ticks(low, high, count))
    assert len(set(labels)) == len(labels)


@given(st.floats(-300, 300), st.floats(1e-3, 600), st.integers(2, 12), st.booleans())
def test_a_scale_has_distinct_labels_inside(low: float, span: float, count: int, log: bool) -> None:
    scale = ValueScale(low, min(low + span, 305.0) if log else low + span, log)
    ticks, labels = scale.ticks(count)
    assert len(set(labels)) == len(labels) == len(ticks)
    assert len(ticks) <= 3 * count + 6
    places = [(math.log10(t) if log else t) for t in ticks]
    assert all(scale.low - 1e-9 <= p <= scale.high + 1e-9 for p in places)


@given(st.floats(0, 1e9), st.floats(-3, 9), st.integers(1, 20))
def test_times_are_multiples_of_a_round_number(low: float, power: float, count: int) -> None:
    ticks = time_ticks(low, low + 10.0**power, count)
    assert all(x < y for x, y in itertools.pairwise(ticks))
    assert len(ticks) <= count + 2
    assert all(t >= low - 1e-6 for t in ticks)


def test_ticks_are_round() -> None:
    assert nice_ticks(0.3, 10.9, 5) == [2, 4, 6, 8, 10]
    assert nice_ticks(0, 1000, 5) == [0, 200, 400, 600, 800, 1000]
    assert nice_ticks(1, 1, 5) == []
    assert time_ticks(0, 7200, 4) == [0, 1800, 3600, 5400, 7200, 9000]
