"""Every metric of the runs as a chart: as many as fit on the screen, the others on more pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from textual.message import Message
from textual.strip import Strip

from monitor.chart.picture import Ink, Picture, Piece
from monitor.plots.arrange import Arrangement, Place, arrange
from monitor.plots.paint import Drawn, paint, paint_nothing, select
from monitor.widgets.chart_pane import ChartMoved, ChartPane

__all__ = ["ChartGrid", "ChartMoved"]

#: Seconds of drawing at a time; the remaining charts are drawn after the queued messages.
_SLICE = 0.03


@dataclass
class _Cell:
    """What was last drawn of a chart, and from what."""

    seen: object
    drawn: Drawn
    strips: list[Strip] = field(default_factory=list)


class ChartGrid(ChartPane):
    """A page of charts. Only those whose curves or window changed are drawn, by `painter`."""

    class Opened(Message):
        """The chart of `key` was opened."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self, *, painter: Callable[..., Drawn] = paint, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._painter = painter
        self._cells: dict[str, _Cell] = {}
        self._placed: dict[str, Place] = {}

    # -- the cursor ----------------------------------------------------------------------

    @property
    def arrangement(self) -> Arrangement:
        """The page with the cursor."""
        keys, key = self.scene.keys, self.scene.key
        shown = keys.index(key) if key in keys else 0
        return arrange(len(keys), *self.size, shown, foot=self.scene.is_overlay)

    def move_cursor(self, across: int = 0, down: int = 0) -> None:
        """Move to a neighbour; beyond the edge, to the neighbouring page."""
        keys, now = self.scene.keys, self.arrangement
        if not keys:
            return
        index = keys.index(self.scene.key)
        moved = self._below(now, index, down) if down else index + across
        self.change(self.scene.state.at_chart(keys[min(max(0, moved), len(keys) - 1)]))

    def _below(self, now: Arrangement, index: int, down: int) -> int:
        """The chart below or above, where the first one may be wider than the others."""
        place = now.places[index - now.first]
        middle = place.x if place.width == now.places[-1].width else place.x + place.width // 2
        y = place.y + place.height if down > 0 else place.y - 1
        for i, other in enumerate(now.places):
            if other.holds(middle, y):
                return now.first + i
        if down > 0 and now.page + 1 == now.pages:
            later = [i for i, p in enumerate(now.places) if p.y > place.y]
            return now.first + later[-1] if later else index
        if down < 0 and now.page == 0:
            return index
        return index + down * now.columns

    def turn_page(self, pages: int) -> None:
        """Move by whole pages."""
        keys, now = self.scene.keys, self.arrangement
        page = min(max(0, now.page + pages), now.pages - 1)
        if keys and page != now.page:
            each = now.columns * now.rows
            self.change(self.scene.state.at_chart(keys[min(page * each, len(keys) - 1)]))

    def open(self) -> None:
        """Show the chart under the cursor alone."""
        if self.scene.key:
            self.post_message(self.Opened(self.scene.key))

    def double_clicked(self, key: str, y: int) -> None:
        """On the heading it opens the chart, below it resets the zoom."""
        if y == 0:
            self.post_message(self.Opened(key))
        else:
            self.reset()

    def chart_at(self, x: int, y: int) -> tuple[str, int, int, Drawn] | None:
        """The chart under a cell: its key, the cell within it, and what was drawn."""
        for key, place in self._placed.items():
            if place.holds(x, y) and key in self._cells:
                return key, x - place.x, y - place.y, self._cells[key].drawn
        return None

    def place_of(self, key: str) -> Place:
        """Where the chart of `key` is on this page. Raises KeyError if it is not on it."""
        return self._placed[key]

    def drawn(self, key: str) -> Drawn | None:
        """What was last drawn of a chart on this page."""
        cell = self._cells.get(key) if key in self._placed else None
        return cell.drawn if cell else None

    # -- drawing -------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether every chart of the page is up to date."""
        return all(
            key in self._cells and self._cells[key].seen == self._wanted(key, place)
            for key, place in self._placed.items()
        )

    def draw(self, width: int, height: int) -> list[Strip]:
        """The charts of the page, row by row; below them, if there are others, which page it is."""
        scene = self.scene
        if not scene.keys:
            return self.strips(paint_nothing(self._why_empty(), " charts", width, height))
        now = self.arrangement
        keys = scene.keys[now.first : now.last]
        self._placed = dict(zip(keys, now.places, strict=True))
        self._cells = {key: cell for key, cell in self._cells.items() if key in self._placed}
        began = time.monotonic()
        for key, place in self._placed.items():
            if key not in self._cells or time.monotonic() - began < _SLICE:
                self._draw_chart(key, place)
            elif self._cells[key].seen != self._wanted(key, place):
                self._draw_soon(at_once=True)
        found = self._joined(now, width)
        if now.pages > 1 or scene.is_overlay:
            found += [Strip.blank(width, self.base)] * (height - len(found) - 1)
            found += self.strips(self._foot(now, width))
        return found

    def _wanted(self, key: str, place: Place) -> object:
        selected = key == self.scene.key
        return self.scene.signature(key), selected, place.width, place.height, self._look()

    def _look(self) -> object:
        return self.app.theme, self.base

    def _draw_chart(self, key: str, place: Place) -> None:
        wanted = self._wanted(key, place)
        cell = self._cells.get(key)
        if cell is not None and cell.seen == wanted:
            return
        drawn = self._painter(self.scene, key, place.width, place.height, named=False)
        if key == self.scene.key and len(self.scene.keys) > 1:
            select(drawn.picture, ascii=self.ascii)
        self._cells[key] = _Cell(wanted, drawn, self.strips(drawn.picture))

    def _joined(self, now: Arrangement, width: int) -> list[Strip]:
        """The strips of charts that stand side by side as strips of the whole width."""
        bottom = max(place.y + place.height for place in now.places)
        rows: list[list[tuple[int, Strip]]] = [[] for _ in range(bottom)]
        for key, place in self._placed.items():
            for i, strip in enumerate(self._cells[key].strips[: place.height]):
                rows[place.y + i].append((place.x, strip))
        found = []
        for row in rows:
            parts, at = [], 0
            for x, strip in row:
                if x > at:
                    parts.append(Strip.blank(x - at, self.base))
                parts.append(strip)
                at = x + strip.cell_length
            found.append(Strip.join(parts).adjust_cell_length(width, self.base))
        return found

    def _foot(self, now: Arrangement, width: int) -> Picture:
        """The names of overlaid runs, and which page of how many this is."""
        scene, picture = self.scene, Picture(width, 1)
        x = picture.write_all(0, 0, scene.legend()) if scene.is_overlay else 0
        if now.pages > 1:
            count = f" charts {now.first + 1}-{now.last} of {len(scene.keys)} "
            where = f" {' '.join('●' if i == now.page else '·' for i in range(now.pages))} "
            if x + len(count) + len(where) > width:
                where = f" page {now.page + 1}/{now.pages} "
            if x + len(count) + len(where) > width:
                count = ""
            pieces: list[Piece] = [(count, Ink("muted")), (where, Ink("primary"))]
            start = width - len(count) - len(where) if scene.is_overlay else 0
            picture.write_all(0, max(0, start), pieces)
        if self.ascii:
            picture.to_ascii()
        return picture

    def _why_empty(self) -> str:
        if not self._runs:
            return ""
        if any(detail.loading is not None for _, detail in self._runs):
            return "reading metrics.jsonl…"
        why = next((detail.why_empty for _, detail in self._runs if detail.why_empty), "")
        return why or "No metrics yet: the curves begin with the first step."
