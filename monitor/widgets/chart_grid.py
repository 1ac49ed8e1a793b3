"""Every metric of the runs as a chart: as many as fit on the screen, the others on more pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from textual import events
from textual.message import Message
from textual.strip import Strip

from monitor.chart.picture import Ink, Picture, Piece, cell_count, clip, clip_middle
from monitor.plots.arrange import Arrangement, Place, Section, arrange, arrange_groups
from monitor.plots.metric_list import MetricGroup
from monitor.plots.paint import Drawn, paint, paint_nothing, select
from monitor.widgets.chart_pane import ChartMoved, ChartPane
from shared.text import one_line, plural

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

    class FoldRefused(Message):
        """A heading was clicked while a filter shows all groups unfolded."""

    def __init__(self, *, painter: Callable[..., Drawn] = paint, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._painter = painter
        self._cells: dict[str, _Cell] = {}
        self._placed: dict[str, Place] = {}
        self._headings: list[tuple[MetricGroup, Place]] = []

    # -- the cursor ----------------------------------------------------------------------

    @property
    def arrangement(self) -> Arrangement:
        """The page with the cursor."""
        return self._arranged(self.scene.metrics.stop_of(self.scene.key))

    def _arranged(self, shown: int) -> Arrangement:
        """The page with place number `shown`."""
        scene, metrics = self.scene, self.scene.metrics
        foot, size = scene.is_overlay or bool(scene.state.query), scene.state.size
        if not metrics.is_grouped:
            return arrange(len(metrics.keys), *self.size, shown, foot=foot, size=size)
        sections = [Section(len(g.keys), bool(g.name), g.folded) for g in metrics.groups]
        return arrange_groups(sections, *self.size, shown, foot=foot, size=size)

    def move_cursor(self, across: int = 0, down: int = 0) -> None:
        """Move to a neighbour; beyond the edge, to the neighbouring page."""
        stops, index = self.scene.metrics.stops, self.scene.metrics.stop_of(self.scene.key)
        if stops:
            moved = self._below(index, down) if down else index + across
            self._go_to(min(max(0, moved), len(stops) - 1))

    def _go_to(self, index: int) -> None:
        self.change(self.scene.state.at_chart(self.scene.metrics.stops[index].key))

    def _below(self, index: int, down: int) -> int:
        """The place below or above."""
        now = self.arrangement
        found = now.beyond(index, down)
        if found is not None:
            return found
        other = now.last if down > 0 else now.first - 1
        if not 0 <= other < len(self.scene.metrics.stops):
            return index
        return self._arranged(other).entered(now.places[index - now.first], down)

    def turn_page(self, pages: int) -> None:
        """Move by whole pages."""
        now = self.arrangement
        page = min(max(0, now.page + pages), now.pages - 1)
        if self.scene.keys and page != now.page:
            self._go_to(now.starts[page])

    def toggle_fold(self, group: str = "") -> bool:
        """Fold or unfold a group, that under the cursor by default; False if it is in none."""
        group = group or self.scene.metrics.group_of(self.scene.key)
        if group:
            self.change(self.scene.state.toggled_fold(group))
        return bool(group)

    def toggle_folds(self) -> bool:
        """Fold all groups, or unfold them all; False if there are none."""
        names = [group.name for group in self.scene.metrics.groups if group.name]
        if names:
            self.change(self.scene.state.toggled_folds(names))
        return bool(names)

    def open(self) -> None:
        """Show the chart under the cursor alone; a folded group is unfolded."""
        if self.scene.metrics.folded_at(self.scene.key):
            self.toggle_fold()
        elif self.scene.key:
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
        stops = scene.metrics.stops[now.first : now.last]
        self._placed = {s.key: p for s, p in zip(stops, now.places, strict=True) if not s.folded}
        groups = scene.metrics.groups
        self._headings = [(groups[number], place) for number, place in now.headings]
        by_name = {group.name: group for group in groups}
        self._headings += [
            (by_name[s.group], p) for s, p in zip(stops, now.places, strict=True) if s.folded
        ]
        self._cells = {key: cell for key, cell in self._cells.items() if key in self._placed}
        began = time.monotonic()
        for key, place in self._placed.items():
            if key not in self._cells or time.monotonic() - began < _SLICE:
                self._draw_chart(key, place)
            elif self._cells[key].seen != self._wanted(key, place):
                self._draw_soon(at_once=True)
        found = self._joined(width)
        if now.pages > 1 or scene.is_overlay or scene.state.query:
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

    def _joined(self, width: int) -> list[Strip]:
        """The strips of charts that stand side by side as strips of the whole width."""
        drawn = [(place, self._cells[key].strips) for key, place in self._placed.items()]
        drawn += [(place, self._heading(group, width)) for group, place in self._headings]
        bottom = max(place.y + place.height for place, _ in drawn)
        rows: list[list[tuple[int, Strip]]] = [[] for _ in range(bottom)]
        for place, strips in drawn:
            for i, strip in enumerate(strips[: place.height]):
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

    def _heading(self, group: MetricGroup, width: int) -> list[Strip]:
        """The name of a group, and how many charts it has."""
        picture = Picture(width, 1)
        sign, name = "▸" if group.folded else "▾", clip_middle(one_line(group.name), width - 20)
        picture.write_all(
            0,
            0,
            [
                (f" {sign} {name}", Ink("primary", "bold")),
                (f"  {plural(len(group.keys), 'chart')}", Ink("muted")),
            ],
        )
        if self.scene.metrics.folded_at(self.scene.key) == group.name:
            select(picture)
        if self.ascii:
            picture.to_ascii()
        return self.strips(picture)

    def on_click(self, event: events.Click) -> None:
        """On the heading of a group, fold or unfold it."""
        group = next((g for g, place in self._headings if place.holds(event.x, event.y)), None)
        if group is None or self._dragged:
            return
        event.stop()
        event.prevent_default()  # it is no click on a chart
        if self.scene.state.query:
            self.post_message(self.FoldRefused())
            return
        self.change(self.scene.state.at_chart(group.keys[0]).toggled_fold(group.name))

    def _foot(self, now: Arrangement, width: int) -> Picture:
        """The names of overlaid runs, the filter, and which page of how many this is."""
        scene, picture = self.scene, Picture(width, 1)
        x = picture.write_all(0, 0, scene.legend()) if scene.is_overlay else 0
        found, count, where = self._filter_text(width // 2), self._count(), ""
        if now.pages > 1:
            where = f" {' '.join('●' if i == now.page else '·' for i in range(now.pages))} "
            if x + len(found) + len(count) + len(where) > width:
                where = f" page {now.page + 1}/{now.pages} "
        else:
            count = ""
        if x + cell_count(found) + len(count) + len(where) > width:
            count = ""
        pieces: list[Piece] = [
            (found, Ink("secondary")), (count, Ink("muted")), (where, Ink("primary")),
        ]  # fmt: skip
        start = width - sum(cell_count(text) for text, _ in pieces) if scene.is_overlay else 0
        picture.write_all(0, max(0, start), pieces)
        if self.ascii:
            picture.to_ascii()
        return picture

    def _filter_text(self, room: int) -> str:
        metrics, query = self.scene.metrics, one_line(self.scene.state.query, 200)
        if not query:
            return ""
        found = f" {len(metrics.keys):,} of {metrics.total:,} match "
        return f"{found}{clip(query, max(6, room - len(found)))} "

    def _count(self) -> str:
        """Which charts these are."""
        keys, shown = self.scene.keys, list(self._placed)
        if not shown:
            return ""
        return f" charts {keys.index(shown[0]) + 1}-{keys.index(shown[-1]) + 1} of {len(keys):,} "

    def _why_empty(self) -> str:
        if not self._runs:
            return ""
        if any(detail.loading is not None for _, detail in self._runs):
            return "reading metrics.jsonl…"
        if self.scene.unmatched:
            return self.scene.unmatched
        why = next((detail.why_empty for _, detail in self._runs if detail.why_empty), "")
        return why or "No metrics yet: the curves begin with the first step."
