"""Runs as lines under a heading: what the list and the table of runs have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from monitor.data.views import RunView
from monitor.list_order import PIPELINE, Group, Listing
from monitor.palette import Colours, status_sign
from monitor.widgets.cells import Piece, fit, fit_middle, line
from monitor.widgets.panel import Panel

SIGNS = 4  # cells for the selection, the mark, the status sign and a space
BEST = "★ "  # before the name of a run whose setting is the best of its group
_UNDER = "└ "  # before a stage of the pipeline above it
_APART = "  "  # before the tags
_WHEEL = 3  # lines


class RunLines(Panel):
    """A heading of `header` lines, then the lines around the selected run, which stays in sight
    until the wheel is turned. Subclasses draw the heading and the line of a run.
    """

    header = 1

    class Chosen(Message):
        """A run was clicked."""

        def __init__(self, run_id: str) -> None:
            super().__init__()
            self.run_id = run_id

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._listing = Listing()
        self._selected: str | None = None
        self._marks: Mapping[str, str] = {}
        self._top = 0
        self._wheeled = False

    def take(self, listing: Listing, selected: str | None, marks: Mapping[str, str]) -> None:
        """Have these runs, one selected, some marked in colours. A new selection is scrolled to."""
        self._wheeled &= selected == self._selected
        self._listing, self._selected, self._marks = listing, selected, marks

    # -- lines ---------------------------------------------------------------------------

    def in_sight(self, height: int) -> Sequence[RunView | Group]:
        """The runs and groups that are in sight on `height` lines with the heading."""
        listing, rows = self._listing, max(1, height - self.header)
        at = self._index()
        if at is None or self._wheeled:
            self._top = max(0, min(self._top, len(listing.rows) - rows))
        else:
            self._top = _scrolled(self._top, at, len(listing.rows), rows)
        return listing.rows[self._top : self._top + rows]

    def line_of(self, row: RunView, width: int) -> Strip:
        """The line of a run."""
        raise NotImplementedError

    def rows_of(self, visible: Sequence[RunView | Group], width: int) -> list[Strip]:
        """What stands under the heading."""
        muted, strips = self.colours.style("muted"), []
        bold = self.colours.style("muted", bold=True)
        for row in visible:
            if isinstance(row, Group):
                strips.append(line([(f"  {row.name} · {row.count:,}", bold)], width, self.base))
            else:
                strips.append(self.line_of(row, width))
        if not self._listing.rows:
            strips.append(line([(nothing_listed(self._listing), muted)], width, self.base))
        return strips

    def signs(self, run: RunView, bar: Style) -> list[Piece]:
        """Whether it is selected, marked, and how it is doing: `SIGNS` cells."""
        colours, mark = self.colours, self._marks.get(run.run_id)
        return [
            ("▌" if run.run_id == self._selected else " ", bar),
            ("◆" if mark else " ", colours.style(mark or "foreground")),
            (f"{status_sign(run.status)} ", status_style(run, colours)),
        ]

    def _index(self) -> int | None:
        rows = enumerate(self._listing.rows)
        found = (i for i, r in rows if isinstance(r, RunView) and r.run_id == self._selected)
        return next(found, None)

    # -- mouse ---------------------------------------------------------------------------

    def heading_clicked(self, x: int, y: int) -> None:
        """A cell of the heading was clicked."""

    def on_click(self, event: events.Click) -> None:
        """Select the run under the pointer."""
        if event.y < self.header:
            self.heading_clicked(event.x, event.y)
            return
        index = self._top + event.y - self.header
        if index < len(self._listing.rows):
            row = self._listing.rows[index]
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


def _scrolled(top: int, selected: int, count: int, rows: int) -> int:
    """The first line shown: as before, moved just enough to show the selected one."""
    top = min(max(top, selected - rows + 1), selected)
    return max(0, min(top, count - rows))


def status_style(run: RunView, colours: Colours) -> Style:
    """The colour of its status; an alarm has its own."""
    return colours.style("warning") if run.alarm else colours.status(run.status)


def nothing_listed(listing: Listing) -> str:
    """Why no run is listed; empty if there is none."""
    if listing.filtered:
        return "  No run matches the filter; Esc clears it."
    if listing.archived == 1:
        return "  The only run is archived; A shows it."
    return "  All runs are archived; A shows them." if listing.archived else ""


def tags_of(run: RunView) -> str:
    """Its tags as they stand behind its name."""
    return _APART + " ".join(f"#{tag}" for tag in run.tags) if run.tags else ""


def name_pieces(
    run: RunView, width: int, text: Style, colours: Colours, *, under: bool = False
) -> list[Piece]:
    """The run's name, its id suffix (dimmed), and its tags. `under`: it is a stage of the pipeline
    above. That one tells after its name which stage is at work.

    Where there is little room it is taken from the middle.
    """
    muted = colours.style("muted")
    named = run.label.startswith(run.name) and len(run.label) > len(run.name)
    name, suffix = (run.name, run.label[len(run.name) :]) if named else (run.label, "")
    if run.archived:
        suffix += " archived"
    if run.stage == PIPELINE and run.phase:
        suffix = f" · {run.phase} {suffix}"
    star = _UNDER * under + (BEST if run.is_best else "")
    width -= cell_len(star)
    name = fit_middle(name, width)
    room = width - cell_len(name)
    least = 1 if suffix else 0  # an ellipsis: there is more to its id
    tags = tags_of(run)
    tags = fit(tags, min(room - least, cell_len(tags))) if room - least > 4 else ""
    suffix = fit(suffix, min(room - cell_len(tags), cell_len(suffix)))
    filled = cell_len(name) + cell_len(suffix) + cell_len(tags)
    return [
        (star, colours.style("val", bold=True)),
        (name, muted if run.archived else text),
        (suffix, muted),
        (tags, colours.style("tag")),
        (" " * (width - filled), muted),
    ]
