"""The list of runs. The selection is a run, not a line: it survives sorting and filtering."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.style import Style
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from monitor.data.views import RunView
from monitor.list_order import Listing, ListOrder
from monitor.palette import Colours
from monitor.widgets.cells import Piece, fit, line, number, short_step
from monitor.widgets.details import time_left
from monitor.widgets.run_lines import SIGNS, RunLines, name_pieces, status_style, tags_of

_NAME = 18  # cells that a name gets before the other columns
_LONGEST_NAME = 64  # cells a name with its tags gets
_MARK = " !"  # a run that has an alarm but keeps training
_ROOMY = 84  # cells of a line from which whole names come before the columns of _THEN
_WHOLE_NAME = 40  # cells
#: Columns in the order in which they get room, with their cells.
_FIRST = (("loss", 7), ("percent", 4), ("left", 7), ("status", 11))
_THEN = (("steps", 11), ("spark", 8))
_BEST = 7
_SPARK_GROWS = 16  # cells more
_ORDER = ("name", "status", "spark", "percent", "steps", "loss", "best", "left")
_TITLES = {"percent": "%", "steps": "step", "spark": "curve"}
#: The column whose heading shows each sort order; other orders are shown beside the count.
_SORTED_AT = {"progress": "percent", "loss": "loss", "best": "best"}
#: The sort order for a click on a heading; a second click sorts by activity again.
_SORTS = {
    "name": "name", "percent": "progress", "steps": "progress", "loss": "loss", "best": "best",
}  # fmt: skip
_BLOCKS = "▁▂▃▄▅▆▇█"


class RunList(RunLines):
    """One line per run, under a heading."""

    class Chosen(RunLines.Chosen):
        """A run of the list was clicked."""

    class SortChosen(Message):
        """A heading was clicked: `sort` is one of `monitor.settings.SORTS`."""

        def __init__(self, sort: str) -> None:
            super().__init__()
            self.sort = sort

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._order = ListOrder()
        self._active = True
        self._columns: dict[str, int] = {}

    def show(
        self,
        listing: Listing,
        order: ListOrder,
        selected: str | None,
        marks: Mapping[str, str],
        *,
        active: bool,
    ) -> None:
        """Show these runs, one selected, some marked in colours. `active`: it has the keys."""
        now = (listing, order, selected, marks, active)
        if now == (self._listing, self._order, self._selected, self._marks, self._active):
            return
        resized = len(listing.rows) != len(self._listing.rows)
        self.take(listing, selected, marks)
        self._order, self._active = order, active
        if resized:
            self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The height of the heading and all runs; CSS limits it."""
        return 1 + max(1, len(self._listing.rows))

    def draw(self, width: int, height: int) -> list[Strip]:
        """The heading and the rows around the selected one."""
        colours, shown = self.colours, self.in_sight(height)
        runs = [row for row in shown if isinstance(row, RunView)]
        labels = _room_for(cell_len(run.label) for run in runs)
        tagged = _room_for(cell_len(run.label) + cell_len(tags_of(run)) for run in runs)
        columns = self._columns = _columns(width, labels, tagged)
        heading = self._heading(columns, len(shown), colours, width)
        return [heading, *self.rows_of(shown, width)]

    # -- lines ---------------------------------------------------------------------------

    def _heading(self, columns: dict[str, int], shown: int, colours: Colours, width: int) -> Strip:
        muted, marked = colours.style("muted"), colours.style("primary", bold=True)
        sort, listing = self._order.sort, self._listing
        count = f"runs {len(listing.runs):,}"
        if shown < len(listing.rows) == len(listing.runs):
            count = f"{self._top + 1:,}-{self._top + shown:,} of {len(listing.rows):,}"
            count += " found" if listing.filtered else ""
        elif listing.filtered:
            count += f" of {listing.total - listing.archived:,}"
        if sort not in _SORTED_AT or _SORTED_AT[sort] not in columns:
            count += "" if sort == "activity" else f" by {sort}"
        if listing.archived:
            count += f" · {listing.archived:,} archived"
        room = SIGNS + columns["name"]
        pieces: list[Piece] = [("  " + fit(count, room - 2), muted)]
        for name in _ORDER[1:]:
            if name in columns:
                by = _SORTED_AT.get(sort) == name
                title = _TITLES.get(name, name) + ("▾" if by else "")
                left = name in ("status", "spark")
                style = marked if by else muted
                pieces.append((" " + fit(title, columns[name], right=not left), style))
        return line(pieces, width, self.base + self.heading_style())

    def line_of(self, row: RunView, width: int) -> Strip:
        """The line of a run."""
        colours, columns = self.colours, self._columns
        selected = row.run_id == self._selected
        base = self.base + colours.selected(active=self._active) if selected else self.base
        text, muted = colours.style("foreground", bold=selected), colours.style("muted")
        bar = colours.style("primary" if self._active else "faint", bold=True)
        pieces: list[Piece] = [
            *self.signs(row, bar),
            *name_pieces(
                row,
                columns["name"],
                text,
                colours,
                under=row.run_id in self._listing.stages,
            ),
        ]
        for name in _ORDER[1:]:
            if name in columns:
                pieces.append((" ", muted))
                pieces += self._cell(name, row, columns[name], text, colours)
        return line(pieces, width, base)

    def _cell(
        self, column: str, run: RunView, width: int, text: Style, colours: Colours
    ) -> list[Piece]:
        muted = colours.style("muted")
        match column:
            case "status":
                word = run.status + _MARK * bool(run.alarm)
                return [(fit(word, width), status_style(run, colours))]
            case "spark":
                return sparkline(run.sparkline, width, colours)
            case "percent":
                shown = "-" if run.fraction is None else f"{run.fraction:.0%}"
                return [(fit(shown, width, right=True), text)]
            case "steps":
                steps = short_step(run.step)
                steps += f"/{short_step(run.max_steps)}" if run.max_steps else ""
                return [(fit(steps, width, right=True), muted)]
            case "loss":
                digits = 3 if run.loss is not None and run.loss < 0 else 4  # the sign needs a cell
                return [(fit(number(run.loss, digits), width, right=True), text)]
            case "best":
                return [(fit(number(run.best_loss), width, right=True), muted)]
            case _:
                return [(fit(time_left(run) or "-", width, right=True), muted)]

    # -- mouse ---------------------------------------------------------------------------

    def heading_clicked(self, x: int, y: int) -> None:
        """Sort by the column; by activity again if it was sorted by that."""
        sort = _SORTS.get(self._column_at(x), "activity")
        self.post_message(self.SortChosen("activity" if sort == self._order.sort else sort))

    def _column_at(self, x: int) -> str:
        """The column at cell `x`."""
        edge = SIGNS + self._columns.get("name", 0)
        if x < edge:
            return "name"
        for name in _ORDER[1:]:
            edge += self._columns.get(name, -1) + 1
            if x < edge:
                return name
        return ""


def _room_for(cells: Iterable[int]) -> int:
    """What the longest needs; one that is too long anyway does not cost others their columns."""
    found = list(cells)
    return max((n for n in found if n <= _LONGEST_NAME), default=min([*found, _LONGEST_NAME]))


def _columns(width: int, labels: int, tagged: int) -> dict[str, int]:
    """The width of each column, the most important first.

    `labels` are the cells of the longest label, `tagged` those of the longest with its tags.
    """
    columns = {"name": max(4, min(_NAME, width - SIGNS))}
    room = width - SIGNS - columns["name"]

    def give(name: str, cells: int) -> None:
        nonlocal room
        if cells < room:
            columns[name] = cells
            room -= cells + 1

    def grow(name: str, cells: int) -> None:
        nonlocal room
        more = max(0, min(room, cells - columns[name]))
        columns[name] += more
        room -= more

    for name, cells in _FIRST:
        give(name, cells)
    if width >= _ROOMY:
        grow("name", min(labels, _WHOLE_NAME))
    for name, cells in _THEN:
        give(name, cells)
    grow("name", min(labels, _LONGEST_NAME))
    give("best", _BEST)
    grow("name", min(tagged, _LONGEST_NAME))
    if "spark" in columns:
        grow("spark", columns["spark"] + _SPARK_GROWS)
    columns["name"] += room
    return columns


def sparkline(values: Sequence[float], width: int, colours: Colours) -> list[Piece]:
    """A curve one line high. NaN and inf are marked; a high start does not flatten the rest."""
    if not values or width < 1:
        return [(" " * max(0, width), Style.null())]
    cells = (
        [values[i * len(values) // width] for i in range(width)] if len(values) > width else values
    )
    # Downsampling must not drop a NaN or inf.
    bad = [
        i * width // max(len(values), width) for i, v in enumerate(values) if not math.isfinite(v)
    ]
    finite = sorted(v for v in cells if math.isfinite(v))
    low, high = (finite[0], finite[int(0.9 * (len(finite) - 1))]) if finite else (0.0, 0.0)
    top = len(_BLOCKS) - 1
    shown = [
        "✕" if not math.isfinite(v)
        else _BLOCKS[round(top * min(1.0, max(0.0, (v - low) / (high - low))))] if high > low
        else _BLOCKS[0]
        for v in cells
    ]  # fmt: skip
    for place in bad:
        shown[min(place, len(shown) - 1)] = "✕"
    train, nonfinite = colours.style("train"), colours.style("nonfinite", bold=True)
    pieces: list[Piece] = []
    for sign in shown:
        style = nonfinite if sign == "✕" else train
        if pieces and pieces[-1][1] == style:
            pieces[-1] = (pieces[-1][0] + sign, style)
        else:
            pieces.append((sign, style))
    return [*pieces, (" " * (width - len(shown)), train)]
