"""The grid of charts: how many fit on a page, and where each one is."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: The size that a chart needs to be useful…
MIN_WIDTH, MIN_HEIGHT = 44, 8
#: …and the height to which it may shrink if then all charts fit on one page.
_SQUEEZED = 7
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

    def holds(self, x: int, y: int) -> bool:
        """Whether the cell (x, y) is inside."""
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


@dataclass(frozen=True)
class Arrangement:
    """A page of charts: `places[i]` is the place of chart `first + i`."""

    page: int
    pages: int
    first: int
    columns: int
    rows: int
    places: tuple[Place, ...]

    @property
    def last(self) -> int:
        """The chart after the last one on the page."""
        return self.first + len(self.places)


def arrange(
    charts: int, width: int, height: int, shown: int = 0, *, foot: bool = False
) -> Arrangement:
    """The page that contains chart number `shown`, of `charts` in `width` by `height` cells.

    Spare places in the grid of the first page go to the first chart, the loss. The last line is
    kept free if there are several pages, and with `foot` always.
    """
    height = max(1, height - foot)
    charts, shown = max(1, charts), min(max(0, shown), max(0, charts - 1))
    most_columns = max(1, (width + _GAP) // (MIN_WIDTH + _GAP))
    most_rows = max(1, height // MIN_HEIGHT)
    if charts > most_columns * most_rows >= charts - most_columns:
        most_rows = max(most_rows, height // _SQUEEZED)
    if charts > most_columns * most_rows:
        height = max(1, height - (not foot))
        columns, rows = most_columns, max(1, height // MIN_HEIGHT)
    else:
        columns, rows = _shape(charts, width, height, most_columns, most_rows)
    each = columns * rows
    page = shown // each
    first = page * each
    here = min(each, charts - first)
    spare = each - here if page == 0 and charts <= each else 0
    return Arrangement(
        page=page,
        pages=math.ceil(charts / each),
        first=first,
        columns=columns,
        rows=rows,
        places=_places(here, _divide(width + _GAP, columns), _divide(height, rows), spare),
    )


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
