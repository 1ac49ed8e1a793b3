"""Charts in a grid: none overlaps another, none is lost, all are of use."""

from __future__ import annotations

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from monitor.plots.arrange import LEAST, MIN_HEIGHT, Section, arrange, arrange_groups
from monitor.settings import CHART_SIZES


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


# -- groups --------------------------------------------------------------------------------

sections = st.lists(
    st.tuples(st.integers(1, 40), st.booleans()).map(lambda p: Section(p[0], True, p[1])),
    min_size=1,
    max_size=8,
)


@given(
    st.integers(0, 9),
    sections,
    st.tuples(st.integers(1, 320), st.integers(1, 90)),
    st.sampled_from(sorted(LEAST)),
    st.booleans(),
)
def test_groups_lie_below_each_other_and_none_is_lost(
    alone: int, groups: list[Section], room: tuple[int, int], size: str, foot: bool
) -> None:
    width, height = room
    given_sections = [*([Section(alone)] if alone else []), *groups]
    stops = sum(1 if s.folded else s.charts for s in given_sections)
    seen: list[int] = []
    shown = 0
    while True:
        page = arrange_groups(given_sections, width, height, shown, foot=foot, size=size)
        assert page.first == shown < page.last
        seen += range(page.first, page.last)
        boxes = [*page.places, *(place for _, place in page.headings)]
        cells = [
            (x, y)
            for box in boxes
            for x in (box.x, box.end)
            for y in (box.y, box.y + box.height - 1)
            if box.width > 0
        ]
        assert all(0 <= x < width for x, _ in cells)
        if height > LEAST[size][1] + 2:  # there is room for a heading, a chart and the foot
            assert all(0 <= y < height - (foot or page.pages > 1) for _, y in cells)
            rows = {place.y for place in page.places}
            assert all(place.y + 1 in rows for _, place in page.headings), "charts are below it"
        for a, b in itertools.combinations(boxes, 2):
            apart = a.y + a.height <= b.y or b.y + b.height <= a.y or a.end < b.x or b.end < a.x
            assert apart
        if page.page + 1 == page.pages:
            break
        shown = page.last
    assert seen == list(range(stops))


@given(
    sections,
    st.tuples(st.integers(1, 320), st.integers(2, 30)),
    st.sampled_from(sorted(LEAST)),
    st.booleans(),
)
@example([Section(3, True)] * 2, (100, 14), "large", False)
def test_every_page_of_groups_has_charts(
    groups: list[Section], room: tuple[int, int], size: str, foot: bool
) -> None:
    first = arrange_groups(groups, *room, foot=foot, size=size)
    assert all(a < b for a, b in itertools.pairwise(first.starts))
    for number, start in enumerate(first.starts):
        page = arrange_groups(groups, *room, start, foot=foot, size=size)
        assert (page.page, page.starts) == (number, first.starts)
        assert page.places


def test_a_group_that_goes_on_has_its_heading_again() -> None:
    first = arrange_groups([Section(5, True)], 80, 20)
    assert (first.pages, [number for number, _ in first.headings]) == (3, [0])
    second = arrange_groups([Section(5, True)], 80, 20, first.last)
    assert [place.y for _, place in second.headings] == [0]


def test_up_and_down_lead_to_what_is_there() -> None:
    page = arrange_groups([Section(3), Section(2, True, True), Section(4, True)], 200, 48)
    assert page.beyond(0, -1) is None
    assert page.beyond(1, 1) == 3, "the heading of the folded group"
    assert page.beyond(3, 1) in range(4, 8)
    assert page.beyond(3, -1) in range(3)
    assert page.beyond(page.last - 1, 1) is None


def test_smaller_charts_are_more_on_a_page() -> None:
    counts = [arrange(500, 80, 18, size=size).last for size in CHART_SIZES]
    assert counts == sorted(counts)
    assert len(set(counts)) == len(counts)
