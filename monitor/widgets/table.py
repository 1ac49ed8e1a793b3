"""The table of runs, over the whole width: a line per run, the columns that were chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.style import Style
from textual.message import Message
from textual.strip import Strip

from monitor.data.outliner import Outlines
from monitor.data.views import RunView
from monitor.list_order import Listing
from monitor.palette import Colours
from monitor.table.columns import Cell, Column
from monitor.table.state import NAME, TableState
from monitor.widgets.cells import Piece, fit, line
from monitor.widgets.run_lines import SIGNS, RunLines, name_pieces, status_style, tags_of

_LEAST_NAME, _MOST_NAME = 18, 48
_MOST = 28  # cells of a column
_MEASURED = 500  # runs whose names say how wide their column is
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


class RunTable(RunLines):
    """A heading, then the rows around the selected run. The name column stays where it is."""

    header = 2

    class Chosen(RunLines.Chosen):
        """A run of the table was clicked."""

    class SortChosen(Message):
        """The heading of a column was clicked; 0 is that of the names."""

        def __init__(self, column: int) -> None:
            super().__init__()
            self.column = column

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown = TableRows()
        self._state = TableState()
        self._first = 0  # the first column beside the name
        self._widths: list[tuple[int, int]] = []  # see `_fitting`
        self._places: list[tuple[int, int]] = []  # where columns end, and which they are

    @property
    def rows(self) -> int:
        """The number of visible rows."""
        return max(1, self.size.height - self.header)

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
        self.take(shown.listing, selected, marks)
        self._shown, self._state = shown, state
        self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """The heading with the counts, the titles, the rows."""
        visible = self.in_sight(height)
        self._widths = self._fitting(width)
        heading = self._heading(len(visible), self.colours, width)
        return [heading, self._titles(self.colours, width), *self.rows_of(visible, width)]

    # -- columns -------------------------------------------------------------------------

    def _fitting(self, width: int) -> list[tuple[int, int]]:
        """The columns in sight, 0 being the names, each with its cells."""
        shown = self._shown
        labels = (cell_len(r.label) + cell_len(tags_of(r)) for r in shown.listing.runs[:_MEASURED])
        name = min(max([_LEAST_NAME, *labels]), _MOST_NAME, max(_LEAST_NAME, width // 3))
        cells = [
            min(_MOST, max(3, len(title) + 1, size))
            for title, size in zip(shown.titles, shown.widths, strict=True)
        ]
        cursor = min(self._state.cursor, len(cells))
        room = max(1, width - SIGNS - name)
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
        muted, listing = colours.style("muted"), self._listing
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

    def _titles(self, colours: Colours, width: int) -> Strip:
        state, shown, widths = self._state, self._shown, self._widths
        pieces: list[Piece] = []
        self._places, edge = [], SIGNS
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
            lead = " " * SIGNS if index == 0 else "  "
            bare = Style.null()
            pieces += [(lead + pad * right, bare), (text, style), (pad * (not right), bare)]
            edge += cells if index == 0 else cells + 2
            self._places.append((edge, index))
        more = "◂" * (self._first > 0) + "▸" * (widths[-1][0] < len(shown.columns))
        if more and edge + 2 <= width:
            pieces.append((" " * (width - edge - len(more)) + more, colours.style("primary")))
        return line(pieces, width, self.base)

    def line_of(self, row: RunView, width: int) -> Strip:
        """The line of a run."""
        colours = self.colours
        selected = row.run_id == self._selected
        base = self.base + colours.selected(active=True) if selected else self.base
        text, muted = colours.style("foreground", bold=selected), colours.style("muted")
        pieces = self.signs(row, colours.style("primary", bold=True))
        cells = self._shown.cells(row)
        for index, size in self._widths:
            if index == 0:
                pieces += name_pieces(row, size, text, colours)
                continue
            column = self._shown.columns[index - 1]
            one = cells[index - 1]
            style = muted if one.value is None or one.approximate else text
            if column.spec == "run:status":
                style = status_style(row, colours)
            right = one.is_number or (one.value is None and self._shown.numeric[index - 1])
            shown = one.text or "-"
            pieces += [("  ", muted), (fit(shown, size, right=right), style)]
        return line(pieces, width, base)

    # -- mouse ---------------------------------------------------------------------------

    def heading_clicked(self, x: int, y: int) -> None:
        """Sort by the column whose title it is."""
        at = next((index for edge, index in self._places if x < edge + 1), None)
        if y == self.header - 1 and at is not None:
            self.post_message(self.SortChosen(at))
