"""Extents become dots: all of them, joined to their neighbours, and nothing else."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.chart.dots import ASCII, BLANK, codes, join

NAN = math.nan
extent = st.one_of(st.none(), st.tuples(st.integers(0, 15), st.integers(0, 15)).map(sorted))


def extents(found: list[list[int] | None]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([NAN if e is None else e[0] for e in found]),
        np.array([NAN if e is None else e[1] for e in found]),
    )


def lit(picture: np.ndarray) -> set[tuple[int, int]]:
    """The dots (x, y from the bottom) of an array of codes, by the Unicode numbering."""
    order = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
    rows = len(picture)
    return {
        (2 * int(x) + right, 4 * rows - 1 - (4 * int(y) + down))
        for y, x in zip(*np.nonzero(picture), strict=True)
        for bit, (right, down) in enumerate(order)
        if picture[y, x] >> bit & 1
    }


@settings(deadline=None)
@given(st.lists(extent, min_size=2, max_size=24).filter(lambda e: len(e) % 2 == 0))
def test_codes_light_exactly_the_extents(found: list[list[int] | None]) -> None:
    picture = codes(*extents(found), rows=4)
    assert picture.shape == (4, len(found) // 2)
    expected = {(x, y) for x, e in enumerate(found) if e for y in range(e[0], e[1] + 1)}
    assert lit(picture) == expected


@settings(deadline=None)
@given(st.lists(extent, min_size=1, max_size=30), st.data())
def test_a_joined_curve_is_connected_and_keeps_its_extents(
    found: list[list[int] | None], data: st.DataObject
) -> None:
    low, high = extents(found)
    empty = [i for i, e in enumerate(found) if e is None]
    broken = np.zeros(len(found), np.bool_)
    broken[data.draw(st.lists(st.sampled_from(empty)) if empty else st.just([]))] = True
    joined_low, joined_high = join(low, high, broken)
    known = np.isfinite(low)
    assert (joined_low[known] <= low[known]).all()
    assert (joined_high[known] >= high[known]).all()
    # No value is made up: whatever is added lies between the neighbours.
    if known.any():
        assert np.nanmin(joined_low) == np.nanmin(low)
        assert np.nanmax(joined_high) == np.nanmax(high)
    assert np.isnan(joined_low[broken]).all()
    places = np.flatnonzero(known)
    for left, right in itertools.pairwise(places):
        between = slice(left + 1, right)
        if broken[between].any():
            assert np.isnan(joined_low[between]).all()
            continue
        assert np.isfinite(joined_low[between]).all()
        for x in range(left, right):
            assert joined_low[x + 1] <= joined_high[x] + 1
            assert joined_low[x] <= joined_high[x + 1] + 1


def test_a_gap_is_crossed_in_a_straight_line() -> None:
    low, high = extents([[0, 0], None, None, None, [8, 9]])
    joined = join(low, high, np.zeros(5, np.bool_))
    assert [float(joined[0][x]) for x in (1, 2, 3)] == [2, 4, 6]
    assert joined[1][4] == 9


@pytest.mark.parametrize("code", range(256))
def test_every_pattern_has_a_plain_character(code: int) -> None:
    character = chr(int(ASCII[code]))
    assert character.isascii()
    assert character.isprintable()
    assert (character == " ") == (code == 0)


def test_the_first_code_is_the_blank_cell() -> None:
    assert chr(BLANK) == "\u2800"
