"""The keys of the table: which column they act on, sorting, choosing columns, CSV."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from monitor.controllers.host import Acts, Host
from monitor.look import TABLE
from monitor.pages.table import TablePage
from monitor.table.state import TableState
from shared.text import one_line

if TYPE_CHECKING:
    from monitor.actions.export import ExportChoice


class Table:
    """Where the table is shown, its keys come first; elsewhere they do what they do there."""

    def __init__(
        self, host: Host, page: TablePage, others: Acts, go: Callable[[int], object]
    ) -> None:
        """`others` are the acts of the keys that mean something else where there is no table; `go`
        moves up or down by lines.
        """
        self._host, self._page, self._others, self._go = host, page, others, go

    def acts(self) -> Acts:
        """What each of its actions does."""
        own: dict[str, Callable[[], object]] = {
            "sort": self.sort,
            "export": self.export,
            "pan_left": partial(self.move, -1),
            "pan_right": partial(self.move, 1),
            "open": self.open,
            "pages_up": partial(self.turn, -1),
            "pages_down": partial(self.turn, 1),
            "crosshair_far_left": partial(self.shift, -1),
            "crosshair_far_right": partial(self.shift, 1),
        }
        found: dict[str, Callable[[], object]] = {
            name: partial(self._either, act, self._others[name]) for name, act in own.items()
        }
        return {**found, "columns": self.choose}

    def _either(self, here: Callable[[], object], elsewhere: Callable[[], object]) -> None:
        (here if self._host.look.page == TABLE else elsewhere)()

    def _set(self, state: TableState) -> None:
        self._host.look = dataclasses.replace(self._host.look, table=state)

    def move(self, by: int) -> None:
        """Move the cursor to another column."""
        state = self._host.look.table
        last = len(self._page.columns(state))
        self._set(state.at_column(min(last, min(state.cursor, last) + by)))

    def shift(self, by: int) -> None:
        """Move the column under the cursor to another place."""
        state = self._host.look.table
        specs = [column.spec for column in self._page.columns(state)]
        at, to = state.cursor - 1, state.cursor - 1 + by
        if 0 <= at < len(specs) and 0 <= to < len(specs):
            specs.insert(to, specs.pop(at))
            self._set(state.with_columns(tuple(specs)).at_column(to + 1))

    def turn(self, pages: int) -> None:
        """Select a run a screen further."""
        self._go(pages * max(1, self._page.rows - 1))

    def open(self) -> None:
        """Open the run under the cursor."""
        look = self._host.look
        self._host.look = dataclasses.replace(look, page="overview", in_page=False)

    def sort(self) -> None:
        """Sort by the column under the cursor."""
        self._set(self._page.sorted_at(self._host.look.table))

    def sort_at(self, column: int) -> None:
        """Sort by a column whose title was clicked."""
        self._set(self._page.sorted_at(self._host.look.table.at_column(column)))

    def choose(self) -> None:
        """Choose the columns."""
        from monitor.screens.columns_dialog import ColumnsScreen
        from monitor.table.columns import offered

        host, page = self._host, self._page
        if host.look.page != TABLE:
            host.tell("9 shows the table of runs, whose columns can be chosen.", "warning")
            return

        def answered(columns: tuple[str, ...] | None) -> None:
            if columns is not None:
                self._set(host.look.table.with_columns(columns))

        chosen = page.columns(host.look.table)
        host.open_dialog(ColumnsScreen(offered(page.outlines, page.swept), chosen), answered)

    def export(self) -> None:
        """Write the table as CSV."""
        from monitor.actions.table import export_table
        from monitor.controllers.dialogs import table_export_dialog

        host, shown, outlines = self._host, self._page.shown, self._page.outlines

        def answered(choice: ExportChoice | None) -> None:
            if choice is not None:
                host.tell(f"Writing {one_line(choice.path)}…")
                runs = shown.listing.runs
                host.act(lambda: export_table(runs, outlines, shown.columns, choice))

        host.open_dialog(table_export_dialog(), answered)
