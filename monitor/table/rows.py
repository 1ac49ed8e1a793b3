"""The rows of the table: cells that are made once, and their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from rich.cells import cell_len

from monitor.data.outline import Outline
from monitor.data.outliner import Outlines
from monitor.data.views import RunView
from monitor.list_order import Group, Listing, Row, natural
from monitor.table.columns import NOTHING, Cell, Column, cell, is_missing, order_of
from monitor.table.state import NAME, TableState

Cells = tuple[Cell, ...]


class Rows:
    """The cells of every run, made again only where the run or its outline is another.

    `widths` are those of the longest texts there were in each column, `numeric` says which columns
    hold numbers.
    """

    def __init__(self) -> None:
        self._columns: tuple[Column, ...] = ()
        self._known: dict[str, tuple[RunView, Outline, Cells]] = {}
        self.widths: list[int] = []
        self.numeric: list[bool] = []

    def fill(
        self, runs: Sequence[RunView], outlines: Outlines, columns: tuple[Column, ...]
    ) -> None:
        """Make the cells of these runs."""
        if columns is not self._columns:
            self._begin(columns)
        known, outline_of = self._known.get, outlines.get
        for run in runs:
            one = known(run.run_id)
            if one is None or one[0] is not run or one[1] is not outline_of(run.run_id, NOTHING):
                self.of(run, outlines, columns)

    def of(self, run: RunView, outlines: Outlines, columns: tuple[Column, ...]) -> Cells:
        """The cells of a run in these columns."""
        if columns is not self._columns:
            self._begin(columns)
        known = self._known.get(run.run_id)
        outline = outlines.get(run.run_id, NOTHING)
        if known is not None and known[0] is run and known[1] is outline:
            return known[2]
        cells = tuple(cell(column, run, outline) for column in columns)
        for index, one in enumerate(cells):
            self.widths[index] = max(self.widths[index], cell_len(one.text))
            self.numeric[index] |= one.is_number
        self._known[run.run_id] = (run, outline, cells)
        return cells

    def _begin(self, columns: tuple[Column, ...]) -> None:
        self._columns, self._known = columns, {}
        self.widths, self.numeric = [0] * len(columns), [False] * len(columns)

    def arranged(
        self, listing: Listing, outlines: Outlines, columns: tuple[Column, ...], state: TableState
    ) -> Listing:
        """The list in the table's order, each group by itself. What is missing comes last."""
        by = self._sorting(outlines, columns, state)
        if by is None:
            return listing
        rows: list[Row] = []
        waiting: list[RunView] = []
        for row in listing.rows:
            if isinstance(row, Group):
                rows += by(waiting)
                waiting = []
                rows.append(row)
            else:
                waiting.append(row)
        rows += by(waiting)
        runs = tuple(row for row in rows if isinstance(row, RunView))
        return dataclasses.replace(listing, rows=tuple(rows), runs=runs)

    def _sorting(
        self, outlines: Outlines, columns: tuple[Column, ...], state: TableState
    ) -> Callable[[Sequence[RunView]], list[RunView]] | None:
        if state.sort == NAME:
            return lambda runs: sorted(runs, key=natural, reverse=state.descending)
        at = next((i for i, column in enumerate(columns) if column.spec == state.sort), None)
        if at is None:
            return None

        def by_column(runs: Sequence[RunView]) -> list[RunView]:
            pairs = [(self.of(run, outlines, columns)[at], run) for run in runs]
            there = [pair for pair in pairs if not is_missing(pair[0])]
            there.sort(key=lambda pair: order_of(pair[0]), reverse=state.descending)
            return [run for _, run in there] + [run for one, run in pairs if is_missing(one)]

        return by_column
