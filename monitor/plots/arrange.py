"""The grid of charts: how many fit on a page, and where each one is."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The least width and height of a chart, by the size that was asked for. `medium` is the least at
#: which nothing is cut short; it may lose a row if then all charts fit on one page.
LEAST: Mapping[str, tuple[int, int]] = {
    "large": (80, 14),
    "medium": (44, 8),
    "small": (32, 6),
    "tiny": (22, 5),
}
MIN_WIDTH, MIN_HEIGHT = LEAST["medium"]
_GAP = 1  # cells between two columns of charts
_ASPECT = 4.2  # cells of width for one of height: about 2:1 to the eye
_EMPTY = 0.9  # the cost of an empty place


@dataclass(frozen=True)
class Place:
    """Where a chart is: its first cell and its size."""

    x: int
    y: int
    width: int
    height: int

    @property
    def end(self) -> int:
        """The last cell of its width."""
        return self.x + self.width - 1

    def holds(self, x: int, y: int) -> bool:
        """Whether the cell (x, y) is inside."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


@dataclass(frozen=True)
class Arrangement:
    """A page of charts: `places[i]` is the place of chart `first + i`.

    `starts` has the first chart of every page. `headings` are those of groups on this page, by the
    number of the group; a folded group has its heading among the places.
    """

    page: int
    starts: tuple[int, ...]
    columns: int
    rows: int
    places: tuple[Place, ...]
    headings: tuple[tuple[int, Place], ...] = ()

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return len(self.starts)

    @property
    def first(self) -> int:
        """The first chart on the page."""
        return self.starts[self.page]

    @property
    def last(self) -> int:
        """The chart after the last one on the page."""
        return self.first + len(self.places)

    def beyond(self, index: int, down: int) -> int | None:
        """The chart below chart `index`, or above it where `down` < 0; None at the page's edge."""
        place = self.places[index - self.first]
        rows = {p.y for p in self.places if (p.y > place.y if down > 0 else p.y < place.y)}
        if not rows:
            return None
        y = min(rows) if down > 0 else max(rows)
        return self.first + self._nearest(place, y)

    def entered(self, place: Place, down: int) -> int:
        """The chart that one arrives at from `place` on the page before (`down` > 0) or after."""
        rows = [p.y for p in self.places]
        return self.first + self._nearest(place, min(rows) if down > 0 else max(rows))

    def _nearest(self, place: Place, y: int) -> int:
        middle = place.x + place.width // 2
        row = [(i, p) for i, p in enumerate(self.places) if p.y == y]
        return min(row, key=lambda one: max(one[1].x - middle, middle - one[1].end, 0))[0]


@dataclass(frozen=True)
class Section:
    """Charts of one group: `charts` of them, below a heading if it is `headed`."""

    charts: int
    headed: bool = False
    folded: bool = False


def arrange(
    charts: int,
    width: int,
    height: int,
    shown: int = 0,
    *,
    foot: bool = False,
    size: str = "medium",
) -> Arrangement:
    """The page that contains chart number `shown`, of `charts` in `width` by `height` cells.

    Spare places in the grid of the first page go to the first chart, the loss. The last line is
    kept free if there are several pages, and with `foot` always.
    """
    height = max(1, height - foot)
    least_width, least_height = LEAST[size]
    charts, shown = max(1, charts), min(max(0, shown), max(0, charts - 1))
    most_columns = max(1, (width + _GAP) // (least_width + _GAP))
    most_rows = max(1, height // least_height)
    if charts > most_columns * most_rows >= charts - most_columns:
        most_rows = max(most_rows, height // (least_height - 1))
    if charts > most_columns * most_rows:
        height = max(1, height - (not foot))
        columns, rows = most_columns, max(1, height // least_height)
    else:
        columns, rows = _shape(charts, width, height, most_columns, most_rows)
    each = columns * rows
    page = shown // each
    starts = tuple(range(0, charts, each))
    here = min(each, charts - starts[page])
    spare = each - here if page == 0 and charts <= each else 0
    return Arrangement(
        page=page,
        starts=starts,
        columns=columns,
        rows=rows,
        places=_places(here, _divide(width + _GAP, columns), _divide(height, rows), spare),
    )


def arrange_groups(
    sections: Sequence[Section],
    width: int,
    height: int,
    shown: int = 0,
    *,
    foot: bool = False,
    size: str = "medium",
) -> Arrangement:
    """The page with place number `shown` of charts in groups; see `arrange`.

    A folded group is one place, its heading. A group that goes on on another page has its heading
    there again.
    """
    least_width, least_height = LEAST[size]
    most = max((s.charts for s in sections if not s.folded), default=1)
    columns = max(1, min((width + _GAP) // (least_width + _GAP), most))
    for reserved in (int(foot), 1):  # the last line is for the foot, if there are several pages
        room = max(2, height - reserved)
        # A row of charts fits below its heading, however low the screen is.
        least_height = min(least_height, room - 1)
        pages = _paged(_lines_of(sections, columns), room, least_height)
        if len(pages) == 1:
            break
    starts = tuple(page[0].first for page in pages)
    page = max(bisect.bisect_right(starts, shown) - 1, 0)
    tallest = max(_row_height(one, room, least_height) for one in pages)
    tall = min(tallest, _row_height(pages[page], room, least_height))
    places, headings = _laid_out(pages[page], _divide(width + _GAP, columns), tall)
    rows = sum(not line.is_heading for line in pages[page])
    return Arrangement(page, starts, columns, rows, tuple(places), tuple(headings))


@dataclass(frozen=True)
class _Line:
    """A heading, or a row of charts, of group `section`; `first` is its first place."""

    section: int
    first: int
    charts: int
    is_heading: bool = False
    is_folded: bool = False


def _lines_of(sections: Sequence[Section], columns: int) -> list[_Line]:
    lines: list[_Line] = []
    at = 0
    for number, section in enumerate(sections):
        if section.headed:
            lines.append(_Line(number, at, int(section.folded), True, section.folded))
        if section.folded:
            at += 1
            continue
        lines += [
            _Line(number, at + start, min(columns, section.charts - start))
            for start in range(0, section.charts, columns)
        ]
        at += section.charts
    return lines


def _paged(lines: Sequence[_Line], room: int, least: int) -> list[list[_Line]]:
    """The lines in pages; no heading is the last of its page while its charts are on the next."""
    pages: list[list[_Line]] = [[]]
    used = 0
    for line in lines:
        cost = 1 if line.is_heading else least
        needed = cost if line.is_folded or not line.is_heading else cost + least
        if pages[-1] and used + needed > room:
            pages.append([])
            used = 0
            if not line.is_heading and (head := _heading_of(line, lines)) is not None:
                pages[-1].append(dataclasses.replace(head, first=line.first))
                used = 1
        pages[-1].append(line)
        used += cost
    return pages


def _heading_of(line: _Line, lines: Sequence[_Line]) -> _Line | None:
    return next((one for one in lines if one.is_heading and one.section == line.section), None)


def _row_height(page: Sequence[_Line], room: int, least: int) -> int:
    rows = sum(not line.is_heading for line in page)
    headings = len(page) - rows
    return max(1, (room - headings) // rows) if rows else least


def _laid_out(
    page: Sequence[_Line], across: Sequence[int], tall: int
) -> tuple[list[Place], list[tuple[int, Place]]]:
    """The places of charts and folded groups, and those of the other headings."""
    columns, width = len(across) - 1, across[-1] - _GAP
    places: list[Place] = []
    headings: list[tuple[int, Place]] = []
    y = 0
    for line in page:
        if line.is_heading:
            place = Place(0, y, width, 1)
            if line.is_folded:
                places.append(place)
            else:
                headings.append((line.section, place))
            y += 1
            continue
        # The first of fewer charts than there is room for is as wide as that allows.
        spare = columns - line.charts if not places and line.first == 0 else 0
        for i in range(line.charts):
            begin = i + spare if i else 0
            end = i + spare + 1
            places.append(Place(across[begin], y, across[end] - across[begin] - _GAP, tall))
        y += tall
    return places, headings


def _shape(charts: int, width: int, height: int, columns: int, rows: int) -> tuple[int, int]:
    """Columns and rows for `charts` on one page, so that each has a pleasant shape."""
    best, found = math.inf, (1, 1)
    for across in range(1, columns + 1):
        down = math.ceil(charts / across)
        if down > rows:
            continue
        aspect = (width / across) / max(1, height // down)
        cost = abs(math.log(aspect / _ASPECT)) + _EMPTY * (across * down - charts) / charts
        if cost < best:
            best, found = cost, (across, down)
    return found


def _places(charts: int, across: list[int], down: list[int], spare: int) -> tuple[Place, ...]:
    """The place of each chart, given where columns and rows begin."""
    columns = len(across) - 1
    first = min(columns, 1 + spare)  # columns that the first chart takes
    places = []
    for i in range(charts):
        slot = i + first - 1 if i else 0
        row, column = divmod(slot, columns)
        end = column + (first if i == 0 else 1)
        x, y = across[column], down[row]
        places.append(Place(x, y, across[end] - x - _GAP, down[row + 1] - y))
    return tuple(places)


def _divide(size: int, parts: int) -> list[int]:
    """The start of each of the equal parts, and the end of the last."""
    return [i * size // parts for i in range(parts + 1)]
