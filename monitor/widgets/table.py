"""The table of runs, over the whole width: a line per run, the columns that were chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from monitor.data.outliner import Outlines
from monitor.data.views import RunView
from monitor.list_order import Group, Listing
from monitor.palette import Colours, status_sign
from monitor.table.columns import Cell, Column
from monitor.table.state import NAME, TableState
from monitor.widgets.cells import Piece, fit, line
from monitor.widgets.panel import Panel
from monitor.widgets.run_list import name_pieces, nothing_listed, scrolled, tags_of

_SIGNS = 4  # cells for the selection, the mark, the status sign and a space
_LEAST_NAME, _MOST_NAME = 18, 48
_MOST = 28  # cells of a column
_MEASURED = 500  # runs whose names say how wide their column is
_WHEEL = 3
_KEYS = (
    "←→ column · < > move it · o sort · w columns · e CSV · Enter run · Esc back",
    "←→ column · o sort · w columns · e CSV · Esc back",
    "o sort · w columns · e CSV",
)


@dataclass(frozen=True)
class TableRows:
    """What is shown: for each of `columns` its title, the cells of its longest text, and whether
    it holds numbers; `cells` gives those of a run, which follow from it and its outline.
    """

    listing: Listing = field(default_factory=Listing)
    columns: tuple[Column, ...] = ()
    titles: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    numeric: tuple[bool, ...] = ()
    cells: Callable[[RunView], tuple[Cell, ...]] = field(default=lambda _: (), compare=False)
    outlines: Outlines = field(default_factory=dict)
    #: How many runs were not outlined yet.
    waiting: int = 0


class RunTable(Panel):
    """A heading, then the rows around the selected run. The name column stays where it is."""

    class Chosen(Message):
        """A run was clicked."""

        def __init__(self, run_id: str) -> None:
            super().__init__()
            self.run_id = run_id

    class SortChosen(Message):
        """The heading of a column was clicked; 0 is that of the names."""

        def __init__(self, column: int) -> None:
            super().__init__()
            self.column = column

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown = TableRows()
        self._state = TableState()
        self._selected: str | None = None
        self._marks: Mapping[str, str] = {}
        self._top = 0
        self._first = 0  # the first column beside the name
        self._wheeled = False
        self._places: list[tuple[int, int]] = []  # where columns end, and which they are

    @property
    def rows(self) -> int:
        """The number of visible rows."""
        return max(1, self.size.height - 2)

    def show(
        self,
        shown: TableRows,
        state: TableState,
        selected: str | None,
        marks: Mapping[str, str],
    ) -> None:
        """Show these rows, one of them selected, some marked in colours."""
        now = (shown, state, selected, marks)
        if now == (self._shown, self._state, self._selected, self._marks):
            return
        self._wheeled &= selected == self._selected
        self._shown, self._state, self._selected, self._marks = now
        self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """The heading with the counts, the titles, the rows."""
        colours, listing = self.colours, self._shown.listing
        rows = max(1, height - 2)
        at = self._index()
        if at is None or self._wheeled:
            self._top = max(0, min(self._top, len(listing.rows) - rows))
        else:
            self._top = scrolled(self._top, at, len(listing.rows), rows)
        visible = listing.rows[self._top : self._top + rows]
        widths = self._widths(width)
        strips = [self._heading(len(visible), colours, width), self._titles(widths, colours, width)]
        ground = self.base
        for row in visible:
            if isinstance(row, Group):
                text = f"  {row.name} · {row.count:,}"
                strips.append(line([(text, colours.style("muted", bold=True))], width, self.base))
            else:
                strips.append(self._line(row, widths, colours, width, ground))
        if not listing.rows:
            told = nothing_listed(listing)
            strips.append(line([(told, colours.style("muted"))], width, self.base))
        return strips

    # -- columns -------------------------------------------------------------------------

    def _widths(self, width: int) -> list[tuple[int, int]]:
        """The columns in sight, 0 being the names, each with its cells."""
        shown = self._shown
        labels = (cell_len(r.label) + cell_len(tags_of(r)) for r in shown.listing.runs[:_MEASURED])
        name = min(max([_LEAST_NAME, *labels]), _MOST_NAME, max(_LEAST_NAME, width // 3))
        cells = [
            min(_MOST, max(3, len(title) + 1, size))
            for title, size in zip(shown.titles, shown.widths, strict=True)
        ]
        cursor = min(self._state.cursor, len(cells))
        room = max(1, width - _SIGNS - name)
        self._first = min(self._first, max(0, cursor - 1))
        while self._first < cursor - 1 and sum(c + 2 for c in cells[self._first : cursor]) > room:
            self._first += 1
        found = [(0, name)]
        used = 0
        for index in range(self._first, len(cells)):
            if used + cells[index] + 2 > room and index > self._first:
                break
            found.append((index + 1, cells[index]))
            used += cells[index] + 2
        return found

    # -- lines ---------------------------------------------------------------------------

    def _heading(self, visible: int, colours: Colours, width: int) -> Strip:
        muted, listing = colours.style("muted"), self._shown.listing
        count = f" table  runs {len(listing.runs):,}"
        if listing.filtered:
            count += f" of {listing.total - listing.archived:,}"
        if visible < len(listing.rows):
            count += f"  lines {self._top + 1:,}-{self._top + visible:,} of {len(listing.rows):,}"
        if listing.archived:
            count += f" · {listing.archived:,} archived"
        if self._shown.waiting:
            count += f" · reading {self._shown.waiting:,}"
        pieces: list[Piece] = [(count, muted)]
        room = width - cell_len(count) - 3
        keys = next((keys for keys in _KEYS if cell_len(keys) <= room), "")
        pieces += [(" " * (room - cell_len(keys) + 2), muted), (keys, muted)]
        return line(pieces, width, self.base + self.heading_style())

    def _titles(self, widths: Sequence[tuple[int, int]], colours: Colours, width: int) -> Strip:
        state, shown = self._state, self._shown
        pieces: list[Piece] = []
        self._places, edge = [], _SIGNS
        for index, cells in widths:
            spec = NAME if index == 0 else shown.columns[index - 1].spec
            title = "run" if index == 0 else shown.titles[index - 1]
            sign = ("▾" if state.descending else "▴") if state.sort == spec else ""
            here = index == min(state.cursor, len(shown.columns))
            style = colours.style("primary" if sign or here else "muted", bold=bool(sign) or here)
            if here:
                style += Style(underline=True)
            text = fit(title, min(cell_len(title), cells - len(sign))) + sign
            right = index > 0 and shown.numeric[index - 1]
            pad = " " * (cells - cell_len(text))
            lead = " " * _SIGNS if index == 0 else "  "
            bare = Style.null()
            pieces += [(lead + pad * right, bare), (text, style), (pad * (not right), bare)]
            edge += cells if index == 0 else cells + 2
            self._places.append((edge, index))
        more = "◂" * (self._first > 0) + "▸" * (widths[-1][0] < len(shown.columns))
        if more and edge + 2 <= width:
            pieces.append((" " * (width - edge - len(more)) + more, colours.style("primary")))
        return line(pieces, width, self.base)

    def _line(
        self,
        run: RunView,
        widths: Sequence[tuple[int, int]],
        colours: Colours,
        width: int,
        ground: Style,
    ) -> Strip:
        selected = run.run_id == self._selected
        base = ground + colours.selected(active=True) if selected else ground
        text, muted = colours.style("foreground", bold=selected), colours.style("muted")
        mark = self._marks.get(run.run_id)
        sign = colours.style("warning") if run.alarm else colours.status(run.status)
        pieces: list[Piece] = [
            ("▌" if selected else " ", colours.style("primary", bold=True)),
            ("◆" if mark else " ", colours.style(mark or "foreground")),
            (f"{status_sign(run.status)} ", sign),
        ]
        cells = self._shown.cells(run)
        for index, size in widths:
            if index == 0:
                pieces += name_pieces(run, size, text, colours)
                continue
            column = self._shown.columns[index - 1]
            one = cells[index - 1]
            style = muted if one.value is None or one.approximate else text
            if column.spec == "run:status":
                style = sign
            right = one.is_number or (one.value is None and self._shown.numeric[index - 1])
            shown = one.text or "-"
            pieces += [("  ", muted), (fit(shown, size, right=right), style)]
        return line(pieces, width, base)

    # -- mouse ---------------------------------------------------------------------------

    def _index(self) -> int | None:
        found = (
            i
            for i, row in enumerate(self._shown.listing.rows)
            if isinstance(row, RunView) and row.run_id == self._selected
        )
        return next(found, None)

    def on_click(self, event: events.Click) -> None:
        """Select the run under the pointer; on a title, sort by it."""
        if event.y == 1:
            at = next((index for edge, index in self._places if event.x < edge + 1), None)
            if at is not None:
                self.post_message(self.SortChosen(at))
            return
        index = self._top + event.y - 2
        if event.y > 1 and 0 <= index < len(self._shown.listing.rows):
            row = self._shown.listing.rows[index]
            if isinstance(row, RunView):
                self.post_message(self.Chosen(row.run_id))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll down; the selection stays."""
        self._scroll(_WHEEL)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll up; the selection stays."""
        self._scroll(-_WHEEL)
        event.stop()

    def _scroll(self, by: int) -> None:
        self._wheeled = True
        self._top += by
        self.redraw()

    def on_resize(self) -> None:
        """Fit the columns to the new width."""
        self.redraw()
