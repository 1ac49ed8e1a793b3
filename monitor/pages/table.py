"""The table of runs: all of them, with the columns that were chosen, over the whole screen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import MappingProxyType
from typing import Protocol

from textual.widget import Widget

from monitor.data.groups import swept_keys
from monitor.data.outliner import Outlines
from monitor.data.views import RunView
from monitor.list_order import Listing
from monitor.look import TABLE
from monitor.pages.page import PageController, Seen
from monitor.table.columns import METRICS, Choice, Column, titles
from monitor.table.rows import Rows
from monitor.table.state import NAME, TableState
from monitor.widgets.table import RunTable, TableRows
from shared.text import one_line


class Want(Protocol):
    """Asks for the outlines of runs."""

    def __call__(self, runs: Sequence[RunView], *, metrics: bool) -> None:
        """`metrics`: at once those too."""


class TablePage(PageController):
    """`want` asks for the outlines of runs, which `take` is given as they are read."""

    name = TABLE

    def __init__(self, want: Want) -> None:
        self._want = want
        self._panel = RunTable(id="table")
        self._rows = Rows()
        self._outlines: Outlines = MappingProxyType({})
        self._choice = Choice()
        self._runs = 0
        self._swept: tuple[str, ...] = ()
        self._shown = TableRows()

    @property
    def outlines(self) -> Outlines:
        """What was read so far."""
        return self._outlines

    @property
    def swept(self) -> tuple[str, ...]:
        """The keys that are swept in groups of the listed runs."""
        return self._swept

    @property
    def shown(self) -> TableRows:
        """What is in the table."""
        return self._shown

    @property
    def rows(self) -> int:
        """The number of visible runs."""
        return self._panel.rows

    def take(self, outlines: Outlines) -> None:
        """Show these from now on."""
        self._outlines = outlines

    def columns(self, state: TableState) -> tuple[Column, ...]:
        """The columns that are shown."""
        return self._choice.columns(state.columns, self._outlines, self._runs, self._swept)

    def column_at(self, state: TableState) -> Column | None:
        """The column under the cursor; None: the names."""
        columns = self.columns(state)
        return columns[min(state.cursor, len(columns)) - 1] if columns and state.cursor else None

    def sorted_at(self, state: TableState) -> TableState:
        """The same sorted by the column under the cursor."""
        column = self.column_at(state)
        if column is None:
            return state.sorted_by(NAME)
        return state.sorted_by(column.spec, descending=column.goes_down)

    def widgets(self) -> Sequence[Widget]:
        """The table."""
        return [self._panel]

    def arranged(self, listing: Listing, seen: Seen) -> Listing:
        """The list in the order of the table."""
        state = seen.look.table
        wanted = _wanted(listing, seen)
        self._runs, self._swept = len(wanted), swept_keys(wanted.values())
        return self._rows.arranged(listing, self._outlines, self.columns(state), state)

    def show(self, seen: Seen) -> None:
        """Show all listed runs."""
        if seen.snapshot is None:
            return
        listing, wanted = seen.listing, _wanted(seen.listing, seen)
        self._runs, self._swept = len(wanted), swept_keys(wanted.values())
        columns = self.columns(seen.look.table)
        self._want(tuple(wanted.values()), metrics=any(c.kind in METRICS for c in columns))
        self._rows.fill(listing.runs, self._outlines, columns)
        self._shown = TableRows(
            listing,
            columns,
            tuple(one_line(title, 60) for title in titles(columns)),
            tuple(self._rows.widths),
            tuple(self._rows.numeric),
            partial(self._rows.of, outlines=self._outlines, columns=columns),
            self._outlines,
            len(wanted.keys() - self._outlines.keys()),
        )
        self._panel.show(self._shown, seen.look.table, seen.look.selected, seen.marks)


def _wanted(listing: Listing, seen: Seen) -> dict[str, RunView]:
    """The runs to outline by their ids: those in the list first, in its order; then those that a
    filter hides, so that what is typed into it changes no column.
    """
    found = {run.run_id: run for run in listing.runs}
    if seen.snapshot is not None and listing.filtered:
        for run in seen.snapshot.runs:
            if not (run.archived and listing.archived):
                found.setdefault(run.run_id, run)
    return found
