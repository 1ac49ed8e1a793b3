"""Points, seeds and names of a sweep."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from shared.run.directory import slug
from shared.text import one_line
from trainer.sweep.axes import Range, Values
from trainer.sweep.plan import Point, grid, identity, names_of, paired, random_points

axes_of_values = st.lists(
    st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True), max_size=4
).map(lambda lists: [Values(f"k{n}", tuple(values)) for n, values in enumerate(lists)])


@given(axes_of_values, st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True))
def test_every_point_meets_every_seed_once(axes: list[Values], seeds: list[int]) -> None:
    points = grid(axes)
    assert len(points) == math.prod(len(axis.values) for axis in axes)
    assert len({identity(point) for point in points}) == len(points)
    runs = paired(points, seeds)
    assert [run.settings for run in runs[: len(points)]] == points, "the first seed first"
    assert [run.seed for run in runs] == [seed for seed in seeds for _ in points]
    assert len({identity(run.swept) for run in runs}) == len(runs)


@given(axes_of_values.filter(bool), st.integers(0, 9), st.data())
def test_random_points_are_points_of_the_grid(
    axes: list[Values], seed: int, data: st.DataObject
) -> None:
    whole = grid(axes)
    count = data.draw(st.integers(1, len(whole)))
    points = random_points(axes, count, seed)
    assert points == random_points(axes, count, seed)
    assert len({identity(point) for point in points}) == count
    assert {identity(point) for point in points} <= {identity(point) for point in whole}


def test_random_points_of_ranges() -> None:
    axes = [Range("r", 1e-4, 1e-2), Values("b", (8, 16)), Range("n", 1, 4, whole=True)]
    points = random_points(axes, 20, seed=3)
    assert points == random_points(axes, 20, seed=3)
    assert points != random_points(axes, 20, seed=4)
    assert len({identity(point) for point in points}) == 20
    assert all(float(f"{point['r']:.3g}") == point["r"] for point in points), "readable"


@pytest.mark.parametrize(
    ("axes", "count", "words"),
    [
        ([Values("a", (1, 2))], 3, "the grid has 2 points"),
        ([Range("n", 1, 3, whole=True)], 9, "only about 3 points"),
        ([Range("n", 0, 1)], 0, "at least 1"),
        ([], 2, "needs something to vary"),
        ([Range("n", 0, 1)], 10**9, "at most 10,000"),
    ],
)
def test_fewer_points_than_asked_for(axes: list[Values | Range], count: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        random_points(axes, count)


def test_a_range_has_no_grid_and_a_grid_an_end() -> None:
    with pytest.raises(UserError, match="--random N"):
        grid([Range("n", 0, 1)])
    large = [Values(f"k{n}", tuple(range(100))) for n in range(8)]
    with pytest.raises(UserError, match=r"10,000,000,000,000,000 runs; at most 10,000"):
        grid(large)
    assert len(random_points(large, 5)) == 5


def test_names_say_what_differs() -> None:
    points = [Point({"optim.learning_rate": 1e-3, "optim.name": "muon"}, 1)]
    assert names_of([point.swept for point in points]) == ["lr=0.001,optim=muon,seed=1"]


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["optim.name", "train.seed", "a.name"]),
            st.text(max_size=60) | st.integers() | st.floats(allow_nan=False) | st.none(),
            max_size=3,
        ),
        max_size=8,
    )
)
def test_names_are_readable_and_unique(swept: list[dict[str, object]]) -> None:
    names = names_of(swept)
    assert len(set(names)) == len(names) == len(swept)
    for name in names:
        assert one_line(name) == name
        assert slug(name)
        assert len(name) <= 100
