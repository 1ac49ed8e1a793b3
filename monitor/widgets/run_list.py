"""The list of runs. The selection is a run, not a line: it survives sorting and filtering."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from monitor.data.views import RunView
from monitor.list_order import Group, Listing, ListOrder
from monitor.palette import Colours, status_sign
from monitor.widgets.cells import Piece, fit, fit_middle, line, number, short_step
from monitor.widgets.details import time_left
from monitor.widgets.panel import Panel

_SIGNS = 4  # cells for the selection, the mark, the status sign and a space
_NAME = 18  # cells that a name gets before the other columns
_LONGEST_NAME = 64  # cells a name with its tags gets
_APART = "  "  # before the tags
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


class RunList(Panel):
    """One line per run, under a heading."""

    class Chosen(Message):
        """A run was clicked."""

        def __init__(self, run_id: str) -> None:
            super().__init__()
            self.run_id = run_id

    class SortChosen(Message):
        """A heading was clicked: `sort` is one of `monitor.settings.SORTS`."""

        def __init__(self, sort: str) -> None:
            super().__init__()
            self.sort = sort

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._listing = Listing()
        self._order = ListOrder()
        self._selected: str | None = None
        self._marks: Mapping[str, str] = {}
        self._active = True
        self._top = 0
        self._wheeled = False
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
        self._wheeled &= selected == self._selected
        self._listing, self._order, self._selected, self._marks, self._active = now
        if resized:
            self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The height of the heading and all runs; CSS limits it."""
        return 1 + max(1, len(self._listing.rows))

    def draw(self, width: int, height: int) -> list[Strip]:
        """The heading and the rows around the selected one."""
        colours = self.colours
        listing, rows = self._listing, max(1, height - 1)
        at = self._index()
        if at is None or self._wheeled:
            self._top = max(0, min(self._top, len(listing.rows) - rows))
        else:
            self._top = scrolled(self._top, at, len(listing.rows), rows)
        shown = listing.rows[self._top : self._top + rows]
        runs = [row for row in shown if isinstance(row, RunView)]
        labels = _room_for(cell_len(run.label) for run in runs)
        tagged = _room_for(cell_len(run.label) + cell_len(tags_of(run)) for run in runs)
        columns = self._columns = _columns(width, labels, tagged)
        strips = [self._heading(columns, len(shown), colours, width)]
        for row in shown:
            if isinstance(row, Group):
                text = f"  {row.name} · {row.count}"
                strips.append(line([(text, colours.style("muted", bold=True))], width, self.base))
            else:
                strips.append(self._line(row, columns, colours, width))
        if not listing.rows:
            strips.append(
                line([(nothing_listed(listing), colours.style("muted"))], width, self.base)
            )
        return strips

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
        room = _SIGNS + columns["name"]
        pieces: list[Piece] = [("  " + fit(count, room - 2), muted)]
        for name in _ORDER[1:]:
            if name in columns:
                by = _SORTED_AT.get(sort) == name
                title = _TITLES.get(name, name) + ("▾" if by else "")
                left = name in ("status", "spark")
                style = marked if by else muted
                pieces.append((" " + fit(title, columns[name], right=not left), style))
        return line(pieces, width, self.base + self.heading_style())

    def _line(self, run: RunView, columns: dict[str, int], colours: Colours, width: int) -> Strip:
        selected = run.run_id == self._selected
        base = self.base + colours.selected(active=self._active) if selected else self.base
        text, muted = colours.style("foreground", bold=selected), colours.style("muted")
        status = colours.status(run.status)
        mark = self._marks.get(run.run_id)
        bar = colours.style("primary" if self._active else "faint", bold=True)
        pieces: list[Piece] = [
            ("▌" if selected else " ", bar),
            ("◆" if mark else " ", colours.style(mark or "foreground")),
            (f"{status_sign(run.status)} ", colours.style("warning") if run.alarm else status),
            *name_pieces(run, columns["name"], text, colours),
        ]
        for name in _ORDER[1:]:
            if name in columns:
                pieces.append((" ", muted))
                pieces += self._cell(name, run, columns[name], text, colours)
        return line(pieces, width, base)

    def _cell(
        self, column: str, run: RunView, width: int, text: Style, colours: Colours
    ) -> list[Piece]:
        muted = colours.style("muted")
        match column:
            case "status":
                style = colours.style("warning") if run.alarm else colours.status(run.status)
                return [(fit(run.status + _MARK * bool(run.alarm), width), style)]
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
                return [(fit(number(run.loss), width, right=True), text)]
            case "best":
                return [(fit(number(run.best_loss), width, right=True), muted)]
            case _:
                return [(fit(time_left(run) or "-", width, right=True), muted)]

    # -- mouse ---------------------------------------------------------------------------

    def _index(self) -> int | None:
        rows = self._listing.rows
        found = (
            i for i, r in enumerate(rows) if isinstance(r, RunView) and r.run_id == self._selected
        )
        return next(found, None)

    def on_click(self, event: events.Click) -> None:
        """Select the run under the pointer; on a heading, sort by it."""
        if event.y == 0:
            sort = _SORTS.get(self._column_at(event.x), "activity")
            self.post_message(self.SortChosen("activity" if sort == self._order.sort else sort))
            return
        index = self._top + event.y - 1
        if 0 <= index < len(self._listing.rows):
            row = self._listing.rows[index]
            if isinstance(row, RunView):
                self.post_message(self.Chosen(row.run_id))

    def _column_at(self, x: int) -> str:
        """The column at cell `x`."""
        edge = _SIGNS + self._columns.get("name", 0)
        if x < edge:
            return "name"
        for name in _ORDER[1:]:
            edge += self._columns.get(name, -1) + 1
            if x < edge:
                return name
        return ""

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll down; the selection stays."""
        self._scroll(3)
        event.stop()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll up; the selection stays."""
        self._scroll(-3)
        event.stop()

    def _scroll(self, by: int) -> None:
        self._wheeled = True
        self._top += by
        self.redraw()

    def on_resize(self) -> None:
        """Fit the columns to the new width."""
        self.redraw()


def _room_for(cells: Iterable[int]) -> int:
    """What the longest needs; one that is too long anyway does not cost others their columns."""
    found = list(cells)
    return max((n for n in found if n <= _LONGEST_NAME), default=min([*found, _LONGEST_NAME]))


def nothing_listed(listing: Listing) -> str:
    if listing.filtered:
        return "  No run matches the filter; Esc clears it."
    if listing.archived == 1:
        return "  The only run is archived; A shows it."
    return "  All runs are archived; A shows them." if listing.archived else ""


def _columns(width: int, labels: int, tagged: int) -> dict[str, int]:
    """The width of each column, the most important first.

    `labels` are the cells of the longest label, `tagged` those of the longest with its tags.
    """
    columns = {"name": max(4, min(_NAME, width - _SIGNS))}
    room = width - _SIGNS - columns["name"]

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


def tags_of(run: RunView) -> str:
    return _APART + " ".join(f"#{tag}" for tag in run.tags) if run.tags else ""


def name_pieces(run: RunView, width: int, text: Style, colours: Colours) -> list[Piece]:
    """The run's name, its id suffix (dimmed), and its tags.

    Where there is little room it is taken from the middle.
    """
    muted = colours.style("muted")
    named = run.label.startswith(run.name) and len(run.label) > len(run.name)
    name, suffix = (run.name, run.label[len(run.name) :]) if named else (run.label, "")
    if run.archived:
        suffix += " archived"
    name = fit_middle(name, width)
    room = width - cell_len(name)
    least = 1 if suffix else 0  # an ellipsis: there is more to its id
    tags = tags_of(run)
    tags = fit(tags, min(room - least, cell_len(tags))) if room - least > 4 else ""
    suffix = fit(suffix, min(room - cell_len(tags), cell_len(suffix)))
    filled = cell_len(name) + cell_len(suffix) + cell_len(tags)
    return [
        (name, muted if run.archived else text),
        (suffix, muted),
        (tags, colours.style("tag")),
        (" " * (width - filled), muted),
    ]


def scrolled(top: int, selected: int, count: int, rows: int) -> int:
    """The first line shown: as before, moved just enough to show the selected one."""
    top = min(max(top, selected - rows + 1), selected)
    return max(0, min(top, count - rows))


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
