"""The list of runs. The selection belongs to the person: it is a run, not a line."""

from __future__ import annotations

from rich.cells import cell_len
from rich.style import Style
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from monitor.data.views import RunView
from monitor.theme import Colours, status_sign
from monitor.widgets.cells import Piece, bar, fit, line, number
from monitor.widgets.chart import short_step
from monitor.widgets.panel import Panel
from shared.text import format_duration

_STATUS = 11
_MARK = " !"  # something is wrong with a run that goes on
_LOSS = 7
_ETA = 7
_STEPS = 11
_MIN_NAME = 18
_BARS = (20, 14, 10, 6)


class RunList(Panel):
    """One line per run: sign, name, status, progress, step, loss, time left."""

    class Chosen(Message):
        """The person clicked on a run."""

        def __init__(self, run_id: str) -> None:
            super().__init__()
            self.run_id = run_id

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._runs: tuple[RunView, ...] = ()
        self._selected: str | None = None
        self._top = 0

    def show(self, runs: tuple[RunView, ...], selected: str | None) -> None:
        """Show these runs, one of them selected."""
        if (runs, selected) == (self._runs, self._selected):
            return
        resized = len(runs) != len(self._runs)
        self._runs, self._selected = runs, selected
        if resized:
            self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Heading and all runs; CSS sets the limit."""
        return 1 + max(1, len(self._runs))

    def draw(self, width: int, height: int) -> list[Strip]:
        """The heading and the runs around the selected one."""
        colours = self.colours
        muted = colours.style("muted")
        columns = _columns(width)
        rows = max(1, height - 1)
        self._top = _scrolled(self._top, self._index(), len(self._runs), rows)
        shown = self._runs[self._top : self._top + rows]
        count = f"runs {len(self._runs)}"
        hidden = len(self._runs) - len(shown)
        if hidden:
            count = f"runs {self._top + 1}-{self._top + len(shown)} of {len(self._runs)}"
        heading = [("  " + fit(count, columns["name"] + 2), muted)]
        heading += [(" " + fit("status", columns["status"]), muted)]
        progress = columns["bar"] + 5
        heading += [(" " + fit("progress", progress), muted)] if columns["bar"] else []
        heading += [(" " + fit("step", columns["steps"], right=True), muted)]
        heading += [(" " + fit("loss", columns["loss"], right=True), muted)]
        heading += [(" " + fit("left", columns["eta"], right=True), muted)]
        strips = [line(heading, width, self.base + self.heading_style())]
        strips += [self._line(run, columns, colours, width) for run in shown]
        return strips

    def _line(self, run: RunView, columns: dict[str, int], colours: Colours, width: int) -> Strip:
        selected = run.run_id == self._selected
        base = self.base
        if selected:
            base = base + Style(bgcolor=self.app.theme_variables.get("panel"))
        text, muted = colours.style("foreground", bold=selected), colours.style("muted")
        status = colours.status(run.status)
        marked = colours.style("warning") if run.alarm else status
        fraction = run.fraction
        percent = f"{fraction:4.0%}" if fraction is not None else "   -"
        if run.max_steps:
            steps = f"{short_step(run.step)}/{short_step(run.max_steps)}"
        else:
            steps = short_step(run.step)
        pieces: list[Piece] = [
            ("▌" if selected else " ", colours.style("primary")),
            (f" {status_sign(run.status)} ", status),
            *_name(run, columns["name"], text, muted),
            (" " + fit(run.status + _MARK * bool(run.alarm), columns["status"]), marked),
        ]
        if columns["bar"]:
            pieces.append((" ", muted))
            pieces += bar(fraction, columns["bar"], status, colours.style("faint"))
            pieces.append((" " + percent, text))
        pieces += [
            (" " + fit(steps, columns["steps"], right=True), muted),
            (" " + fit(number(run.loss), columns["loss"], right=True), text),
            (" " + fit(_left(run), columns["eta"], right=True), muted),
        ]
        return line(pieces, width, base)

    def _index(self) -> int:
        return next((i for i, r in enumerate(self._runs) if r.run_id == self._selected), 0)

    def on_click(self, event: events.Click) -> None:
        """Select the run under the pointer."""
        index = self._top + event.y - 1
        if event.y >= 1 and 0 <= index < len(self._runs):
            self.post_message(self.Chosen(self._runs[index].run_id))

    def on_resize(self) -> None:
        """The columns follow the width."""
        self.redraw()


def _columns(width: int) -> dict[str, int]:
    """The width of each column; the bar grows where there is room, the name takes the rest."""
    fixed = {"status": _STATUS, "steps": _STEPS, "loss": _LOSS, "eta": _ETA}
    used = 5 + sum(fixed.values()) + len(fixed)
    for wide in _BARS:
        room = width - used - (wide + 6)
        if room >= _MIN_NAME + (wide if wide > _BARS[-1] else 0):
            return {**fixed, "bar": wide, "name": room}
    return {**fixed, "bar": 0, "name": max(4, width - used)}


def _name(run: RunView, width: int, text: Style, muted: Style) -> list[Piece]:
    """The run's name, then dimly what makes its id differ from it."""
    suffix = run.label[len(run.name) :] if run.label.startswith(run.name) else ""
    if not suffix:
        return [(fit(run.label, width), text)]
    name = fit(run.name, min(width, cell_len(run.name)))
    return [(name, text), (fit(suffix, width - cell_len(name)), muted)]


def _scrolled(top: int, selected: int, count: int, rows: int) -> int:
    """The first line shown: as before, moved just enough to show the selected one."""
    top = min(max(top, selected - rows + 1), selected)
    return max(0, min(top, count - rows))


def _left(run: RunView) -> str:
    if run.eta_seconds is not None and run.alive and run.status != "paused":
        return format_duration(run.eta_seconds)
    return "-"
