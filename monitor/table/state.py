"""How the table is looked at: chosen columns, sorting, cursor. Frozen."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

NAME = "name"  # what the first column is called when it is sorted by


@dataclass(frozen=True)
class TableState:
    """`columns` as settings name them, none: the usual ones. `sort` names one of them, or the name
    column; empty: the order of the list. `cursor` is the column that keys act on, 0 the name.
    """

    columns: tuple[str, ...] = ()
    sort: str = ""
    descending: bool = False
    cursor: int = 0

    def sorted_by(self, spec: str, *, descending: bool = False) -> TableState:
        """The same sorted by this column, at first `descending` or not, then the other way round,
        then in the order of the list.
        """
        if spec != self.sort:
            return dataclasses.replace(self, sort=spec, descending=descending)
        if self.descending == descending:
            return dataclasses.replace(self, descending=not descending)
        return dataclasses.replace(self, sort="", descending=False)

    def with_columns(self, columns: tuple[str, ...]) -> TableState:
        """The same with other columns."""
        return dataclasses.replace(self, columns=columns, cursor=min(self.cursor, len(columns)))

    def at_column(self, cursor: int) -> TableState:
        """The same with the cursor at another column."""
        return dataclasses.replace(self, cursor=max(0, cursor))
