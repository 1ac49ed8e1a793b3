"""Charts in a grid: none overlaps another, none is lost, all are of use."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from monitor.plots.arrange import MIN_HEIGHT, arrange


@given(
    st.integers(0, 60),
    st.integers(1, 320),
    st.integers(1, 90),
    st.integers(-3, 80),
    st.booleans(),
)
def test_charts_lie_side_by_side(
    charts: int, width: int, height: int, shown: int, foot: bool
) -> None:
    page = arrange(charts, width, height, shown, foot=foot)
    cells: set[tuple[int, int]] = set()
    for place in page.places:
        assert place.x >= 0
        assert place.x + place.width <= width
        assert place.y + place.height <= max(1, height)
        own = set(
            itertools.product(
                range(place.x, place.x + place.width), range(place.y, place.y + place.height)
            )
        )
        assert not own & cells
        cells |= own
    wanted = min(max(0, shown), max(0, charts - 1))
    assert page.first <= wanted < page.last
    assert 0 <= page.page < page.pages
    if (page.pages > 1 or foot) and height > MIN_HEIGHT:
        assert max(y for _, y in cells) < height - 1  # the last line is for other things


@given(st.integers(1, 60), st.integers(40, 320), st.integers(9, 90))
def test_every_chart_is_on_one_page(charts: int, width: int, height: int) -> None:
    pages = arrange(charts, width, height).pages
    seen: list[int] = []
    shown = 0
    for _ in range(pages):
        page = arrange(charts, width, height, shown)
        seen += range(page.first, page.last)
        shown = page.last
    assert seen == list(range(charts))


def test_a_small_terminal_has_one_column_and_a_large_one_several() -> None:
    small, large = arrange(12, 80, 18), arrange(12, 200, 48)
    assert (small.columns, small.rows, small.pages) == (1, 2, 6)
    assert (large.columns * large.rows, large.pages) == (12, 1)
    assert large.columns >= 3


def test_one_chart_has_all_the_room() -> None:
    (place,) = arrange(1, 150, 40).places
    assert (place.x, place.y, place.width, place.height) == (0, 0, 150, 40)


def test_what_is_left_over_goes_to_the_first_chart() -> None:
    page = arrange(11, 200, 50)
    widths = [place.width for place in page.places]
    assert page.columns * page.rows > 11
    assert widths[0] > 2 * min(widths) - 2


def test_a_little_less_height_saves_a_page() -> None:
    page = arrange(11, 114, 44)
    assert (page.columns, page.rows, page.pages) == (2, 6, 1)
