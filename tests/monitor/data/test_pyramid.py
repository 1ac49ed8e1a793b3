"""The pyramid gives what reducing every value gives, whatever was appended, mended or asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.data.pyramid import BLOCK, Growing, Pyramid, PyramidBuilder, Pyramids, unchanged
from shared.charts.reduce import Envelope, reduce, reduce_between
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Series
from tests.monitor.support import series


def climbing(block: int = BLOCK) -> PyramidBuilder:
    """A builder whose pyramids are climbed for small ranges too."""
    return PyramidBuilder(block, direct=0)


def same(one: Envelope, other: Envelope) -> bool:
    return (
        np.array_equal(one.low, other.low, equal_nan=True)
        and np.array_equal(one.high, other.high, equal_nan=True)
        and np.array_equal(one.marks, other.marks)
        and one.nonfinite == other.nonfinite
    )


values = st.one_of(
    st.floats(width=64),
    st.floats(-5, 5),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e308, 5e-324]),
)


@st.composite
def writing(draw: st.DrawFn) -> list[list[dict[str, float]]]:
    """What a few attempts wrote, a batch at a time: gaps, steps taken again, steps out of order."""
    batches: list[list[dict[str, float]]] = []
    for attempt in range(1, draw(st.integers(1, 3)) + 1):
        step = draw(st.integers(0, 300))
        for _ in range(draw(st.integers(1, 5))):
            batch = []
            for _ in range(draw(st.integers(1, 70))):
                step = max(0, step + draw(st.sampled_from([1, 1, 1, 1, 1, 2, 50, 1 << 30, 0, -3])))
                batch.append({"step": step, "x": draw(values), "attempt": attempt})
            batches.append(batch)
    return batches


@pytest.mark.parametrize("block", [2, 32])
@settings(max_examples=60, deadline=None)
@given(batches=writing(), columns=st.integers(1, 70), at=st.floats(0, 1), to=st.floats(0, 1))
def test_it_equals_brute_force_after_every_batch(
    block: int, batches: list[list[dict[str, float]]], columns: int, at: float, to: float
) -> None:
    table, builder = MetricsTable(), climbing(block)
    earlier: list[tuple[Pyramid, Envelope]] = []
    for batch in batches:
        table.add_records(batch)
        found = table.series("x")
        built = builder.update(found)
        ends = int(found.steps[0]), int(found.steps[-1])
        span = ends[1] - ends[0]
        inside = ends[0] + int(at * span), ends[0] + int(to * span)
        for first, last in (ends, inside, (ends[0] - 7, ends[1] + 9)):
            assert same(built.envelope(first, last, columns), reduce(found, columns, first, last))
        earlier.append((built, built.envelope(*ends, columns)))
    for built, envelope in earlier:  # what was handed out stays as it was
        steps = built.series.steps
        assert same(built.envelope(int(steps[0]), int(steps[-1]), columns), envelope)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(values, min_size=1, max_size=400),
    st.lists(st.integers(0, 400), min_size=2, max_size=40),
)
def test_any_bounds_will_do(found: list[float], bounds: list[int]) -> None:
    array = np.array(found)
    at = np.minimum(np.sort(np.array(bounds)), len(array))
    built = climbing().update(series("x", array))
    assert same(built.between(at), reduce_between(array, at))


def test_it_equals_brute_force_on_a_long_series_in_uneven_batches() -> None:
    rng = np.random.default_rng(7)
    array = rng.normal(size=200_000)
    array[[5, 77_777, 77_778, 199_999]] = [math.nan, math.inf, -math.inf, math.nan]
    steps = np.cumsum(rng.integers(1, 1000, len(array)))
    builder, size = climbing(), 0
    while size < len(array):
        size = min(len(array), size + int(rng.integers(1, 40_000)))
        found = Series("x", steps[:size], array[:size])
        built = builder.update(found)
        for columns in (1, 7, 220, 801):
            first, last = sorted(rng.integers(0, int(steps[size - 1]), 2).tolist())
            assert same(built.envelope(first, last, columns), reduce(found, columns, first, last))


@pytest.mark.parametrize("bad", [50.0, -50.0, math.nan, math.inf, -math.inf])
def test_one_bad_step_in_a_million_is_there_at_every_zoom(bad: float) -> None:
    array = np.ones(1_000_000)
    array[654_321] = bad
    built = climbing().update(series("loss", array))
    width = 1_000_000
    while width >= 2:
        first = max(0, 654_321 - width // 2)
        envelope = built.envelope(first, first + width - 1, 140)
        column = int(np.argmax(envelope.marks > 0)) if not math.isfinite(bad) else None
        if column is None:
            assert bad in (np.nanmin(envelope.low), np.nanmax(envelope.high))
        else:
            assert envelope.nonfinite == 1
            assert envelope.marks[column]
        width //= 3


def test_nothing_is_built_twice_when_a_series_grows() -> None:
    class Counted(PyramidBuilder):
        taken = 0

        def _take_in(self, values: np.ndarray) -> None:
            self.taken += len(values)
            super()._take_in(values)

    table, builder = MetricsTable(), Counted(direct=0)
    for step in range(5000):
        table.add_records([{"step": step, "x": float(step)}])
        built = builder.update(table.series("x"))
    assert builder.taken == 5000 // BLOCK * BLOCK
    # A resumed run: only what lies after the step it went back to is built again.
    table.add_records([{"step": s, "x": -1.0, "attempt": 2} for s in range(4900, 5000)])
    built = builder.update(table.series("x"))
    assert builder.taken < 5000 + 200
    assert same(built.envelope(0, 4999, 50), reduce(table.series("x"), 50, 0, 4999))


def test_a_replaced_file_is_a_new_series() -> None:
    builder = climbing()
    builder.update(series("x", np.arange(1000.0)))
    shorter = series("x", np.arange(300.0)[::-1])
    assert same(builder.update(shorter).envelope(0, 299, 9), reduce(shorter, 9, 0, 299))


def test_nothing_to_show() -> None:
    empty = climbing().update(series("x", []))
    assert empty.envelope(0, 10, 5).is_empty
    one = climbing().update(series("x", [3.0]))
    assert one.envelope(0, 0, 0).low.shape == (0,)
    assert one.envelope(5, 4, 3).is_empty


def test_only_the_pyramids_asked_for_are_built() -> None:
    table = MetricsTable()
    table.add_records([{"step": s, "a": 1.0, "b": 2.0} for s in range(100)])
    kept = Pyramids()
    assert list(kept.update(table, ["a"])) == ["a"]
    assert list(kept.update(table)) == ["a", "b"]
    assert kept.of(table.series("b")).envelope(0, 99, 4).high.tolist() == [2.0] * 4
    kept.forget(["a", "nothing"])
    assert len(kept.of(table.series("a"))) == 100


def test_unchanged_counts_what_is_equal_bit_by_bit() -> None:
    array = np.array([1.0, math.nan, 3.0])
    assert unchanged(array[:2], array) == 2
    assert unchanged(array, array.copy()) == 3
    assert unchanged(array, np.array([1.0, math.nan, 4.0, 5.0])) == 2
    assert unchanged(array, np.array([2.0])) == 0
    assert unchanged(array[:0], array) == 0


def test_what_grows_leaves_alone_what_it_gave() -> None:
    grown = Growing()
    grown.append(np.arange(5.0))
    before = grown.view()
    grown.cut(2)
    grown.append(np.full(10, 9.0))
    assert before.tolist() == [0, 1, 2, 3, 4]
    assert grown.view()[:3].tolist() == [0, 1, 9]
