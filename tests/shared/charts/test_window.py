"""The x axis: every place in exactly one column, round ticks, moves that stay inside."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.charts.labels import (
    log_labels,
    number,
    short_count,
    short_duration,
    tick_labels,
)
from shared.charts.window import Kind, Window

kinds = st.sampled_from(["step", "time", "tokens"])


@st.composite
def windows(draw: st.DrawFn) -> Window:
    kind = draw(kinds)
    if kind == "step":
        first = draw(st.integers(0, 1 << 40))
        return Window(first, first + draw(st.integers(0, 1 << 40)), kind, draw(st.booleans()))
    origin = draw(st.sampled_from([0.0, 1.79e9])) if kind == "time" else 0.0
    first = origin + draw(st.floats(0, 1e7))
    return Window(first, first + draw(st.floats(0, 1e7)), kind, draw(st.booleans()), origin)


@settings(max_examples=200, deadline=None)
@given(windows(), st.integers(1, 300), st.floats(0, 1))
def test_every_place_is_in_one_column(window: Window, columns: int, share: float) -> None:
    edges = window.edges(columns)
    assert edges.shape == (columns + 1,)
    assert (np.diff(edges) >= 0).all()
    x = window.first + share * (window.last - window.first)
    x = math.floor(x) if window.kind == "step" else min(x, window.last)
    (column,) = window.columns_of([x], columns)
    assert 0 <= column < columns
    assert edges[column] <= x < edges[column + 1]
    assert window.columns_of([window.first, window.last], columns).min() >= 0
    assert edges[-1] > window.last
    outside = [window.first - 1 - abs(window.first), 2 * window.last + 1]
    assert window.columns_of(outside, columns).tolist() == [-1, -1]


@settings(max_examples=200, deadline=None)
@given(windows(), st.integers(1, 300))
def test_ticks_are_inside_rising_and_not_too_many(window: Window, columns: int) -> None:
    ticks = window.ticks(columns)
    assert 1 <= len(ticks) <= 3 + columns // 4
    assert ticks == sorted(set(ticks))
    assert all(window.first <= t <= window.last for t in ticks)
    assert all(window.label(t) for t in ticks)
    if window.kind == "step":
        assert all(t == int(t) for t in ticks)


def test_logarithmic_columns_are_evenly_spaced_in_powers() -> None:
    window = Window(1, 999_999, log=True)
    found = window.columns_of([1, 10, 100, 1000, 10_000, 100_000], 120)
    assert found.tolist() == [0, 20, 40, 60, 80, 100]
    assert Window(0, 999, log=True).columns_of([0, 1], 90).tolist()[0] == 0
    assert window.ticks(120) == [1, 10, 100, 1000, 10_000, 100_000]


@settings(deadline=None)
@given(
    windows().filter(lambda w: w.last - w.first > 20),
    st.floats(0.01, 100),
    st.floats(0, 1),
    st.floats(-3, 3),
)
def test_a_moved_window_stays_within_its_limits(
    window: Window, factor: float, share: float, pan: float
) -> None:
    limits = (window.first, window.last)
    at = window.first + share * (window.last - window.first)
    moved = window.zoomed(factor, at, limits).panned(pan, limits).zoomed(0.5, at, limits)
    assert limits[0] <= moved.first <= moved.last <= limits[1]
    assert (moved.kind, moved.log, moved.origin) == (window.kind, window.log, window.origin)


def test_zooming_keeps_the_place_under_the_cursor() -> None:
    limits = (0.0, 1_000_000.0)
    window = Window(*limits)
    for _ in range(10):
        window = window.zoomed(0.5, 765_432, limits)
    assert window.first <= 765_432 <= window.last
    assert window.last - window.first == pytest.approx(977, abs=12)
    for _ in range(60):
        window = window.zoomed(0.5, 765_432, limits)
    assert window.last - window.first == 8
    assert window.panned(0.01, limits).first == window.first + 1
    for _ in range(70):
        window = window.zoomed(2, 765_432, limits)
    assert (window.first, window.last) == limits


@pytest.mark.parametrize(
    ("kind", "x", "label", "exact"),
    [
        ("step", 12_500, "12.5k", "step 12,500"),
        ("tokens", 3e9, "3B", "3,000,000,000 tokens"),
        ("time", 1_790_000_000 + 5400, "1h30m", "1h30m"),
    ],
)
def test_places_are_named(kind: Kind, x: float, label: str, exact: str) -> None:
    window = Window(0, 4e9, kind, origin=1_790_000_000 if kind == "time" else 0)
    assert (window.label(x), window.exact(x)) == (label, exact)


def test_hours_have_ticks_of_hours() -> None:
    ticks = Window(1e9, 1e9 + 10 * 3600, "time", origin=1e9).ticks(120)
    assert [t - 1e9 for t in ticks] == [i * 3600.0 for i in range(11)]
    days = Window(0, 40 * 86400.0, "time").ticks(60)
    assert all(t % 86400 == 0 for t in days)


@settings(max_examples=300, deadline=None)
@given(st.floats(0, 1e7), st.floats(-2, 7), st.integers(12, 300))
def test_no_two_ticks_have_the_same_time(first: float, power: float, columns: int) -> None:
    window = Window(1.79e9 + first, 1.79e9 + first + 10.0**power, "time", origin=1.79e9)
    labels = [window.label(tick) for tick in window.ticks(columns)]
    assert len(set(labels)) == len(labels)


def test_seconds_are_told_where_they_matter() -> None:
    first = 5 * 3600 + 32 * 60
    window = Window(first, first + 120, "time")
    assert [window.label(t) for t in window.ticks(60)] == [
        "5h32m", "5h32m30s", "5h33m", "5h33m30s", "5h34m",
    ]  # fmt: skip
    assert window.exact(first + 17) == "5h32m17s"
    close = Window(first, first + 2, "time")
    assert [close.label(first + s) for s in (0, 0.5, 1, 60.04)] == [
        "5h32m", "5h32m0.5s", "5h32m1s", "5h33m0.04s",
    ]  # fmt: skip
    assert Window(0, 40 * 86400, "time").label(10 * 86400 + 5 * 3600) == "10d5h"
    assert Window(-90, 90, "time").label(-90) == "-1m30s"


def test_counts_and_durations_are_short() -> None:
    counts = (0, 999, 9999, 10_000, 12_500, 3_000_000, 1_234_567, 5 * 10**12, 123_456_789)
    assert [short_count(c) for c in counts] == [
        "0", "999", "9999", "10k", "12.5k", "3M", "1.235M", "5T", "123,456,789",
    ]  # fmt: skip
    seconds = (0, 0.25, 45, 60, 150, 3600, 5400, 86400, 90000, 1e6, -90)
    assert [short_duration(s) for s in seconds] == [
        "0s", "0.25s", "45s", "1m", "2m30s", "1h", "1h30m", "1d", "1d1h", "11d13h", "-1m30s",
    ]  # fmt: skip


def test_labels_of_values() -> None:
    assert tick_labels([1.0, 1.5, 2.0]) == ["1.0", "1.5", "2.0"]
    assert tick_labels([0.0001, 0.0002]) == ["0.0001", "0.0002"]
    assert tick_labels([0, 1e6]) == ["0", "1e6"]
    assert tick_labels([]) == []
    near = tick_labels([1_000_000.0, 1_000_001.0, 1_000_002.0])
    assert len(set(near)) == 3
    assert log_labels([0.01, 0.1, 1, 1000, 1e6]) == ["0.01", "0.1", "1", "1000", "1e6"]
    assert [number(v) for v in (None, 2.5, 1234.5, 1e-9, math.nan)] == [
        "-", "2.500", "1234" if number(1234.5) == "1234" else "1235", "1e-9", "nan",
    ]  # fmt: skip


@pytest.mark.parametrize(("first", "last"), [(150.0, 900.0), (1100.0, 9900.0), (21.0, 48.0)])
@pytest.mark.parametrize("columns", [20, 60, 200])
def test_a_logarithmic_axis_of_less_than_a_decade_has_round_ticks(
    first: float, last: float, columns: int
) -> None:
    ticks = Window(first, last, "step", log=True).ticks(columns)
    assert len(ticks) >= 2
    assert first not in ticks
