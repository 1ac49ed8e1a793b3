"""The pages of one run that are lists of lines: events, log, configuration, samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.style import Style

from monitor.data.views import EventView, RunDetail, RunView
from monitor.palette import Colours
from monitor.widgets.cells import ago, fit, thousands, wrapped
from monitor.widgets.page import Line, Page
from shared.run.config import differences
from shared.text import format_time, plural

BAD_EVENTS = frozenset(
    {
        "warning",
        "alarm",
        "nonfinite",
        "spike",
        "stalled",
        "crashed",
        "diverged",
        "gave up",
        "rolled back",
        "out of memory",
        "checkpoint failed",
        "checkpoint corrupt",
    }
)
_LONGEST_KIND = 24  # cells
_SIDE_BY_SIDE = 60  # columns from which two configurations are shown side by side


def kind_width(events: Sequence[EventView]) -> int:
    """Cells for the longest kind among `events`, limited to leave room for the text."""
    return min(_LONGEST_KIND, max((cell_len(event.kind) for event in events), default=0))


def event_line(event: EventView, colours: Colours, kind_cells: int) -> Line:
    """Time, step, kind in `kind_cells` cells, and the text on one line."""
    muted, text = colours.style("muted"), colours.style("foreground")
    kind = colours.style("warning") if event.kind in BAD_EVENTS else colours.style("primary")
    when = "" if event.time is None else format_time(event.time, "%H:%M:%S")
    step = "" if event.step is None else thousands(event.step)
    return [
        (" " + fit(when, 9), muted),
        (fit(step, 9, right=True) + "  ", muted),
        (fit(event.kind, kind_cells) + "  ", kind),
        (" ".join(event.text.split()), text),
    ]


class EventsPage(Page):
    """Events, newest first. New events do not move the lines being read."""

    title = "events"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_id = ""
        self._events: tuple[EventView, ...] = ()

    def show(self, detail: RunDetail | None) -> None:
        """Show the events of this run."""
        run_id = detail.run_id if detail else ""
        events = detail.events if detail else ()
        if (run_id, events) == (self._run_id, self._events):
            return
        if run_id != self._run_id:
            self._top = 0
        elif self._top:
            self._top += _added(self._events, events)
        self._run_id, self._events = run_id, events
        self.redraw()

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """One line per event, with a line between days."""
        muted = colours.style("muted")
        if not self._events:
            return [[(" No events yet.", muted)]]
        found: list[Line] = []
        day, column = "", kind_width(self._events)
        for event in reversed(self._events):
            its_day = format_time(event.time, "%A, %d %B %Y") if event.time is not None else day
            if its_day != day:
                found.append([(f" {its_day}", muted)])
                day = its_day
            found += _event_lines(event_line(event, colours, column), width, event.kind)
        return found


def _event_lines(line: Line, width: int, kind: str) -> list[Line]:
    """An event on as many lines as its text needs; a sample, which has its own page, on one."""
    *start, (text, style) = line
    indent = sum(cell_len(t) for t, _ in start)
    parts = [text] if kind == "sample" else wrapped(text, max(20, width - indent - 1))
    return [[*start, (parts[0], style)], *[[(" " * indent + p, style)] for p in parts[1:]]]


def _added(before: Sequence[EventView], after: Sequence[EventView]) -> int:
    """How many events of `after` came after the last of `before`."""
    if not before:
        return 0
    for count, event in enumerate(reversed(after)):
        if event is before[-1] or event == before[-1]:
            return count
    return 0


class LogPage(Page):
    """The end of the log. It follows new lines until it is scrolled back."""

    title = "log"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run_id = ""
        self._newest: tuple[str, ...] = ()
        self._held: tuple[str, ...] | None = None
        self._reason: tuple[str, str] = ("", "")

    @property
    def follows(self) -> bool:
        """Whether new lines are shown as they come."""
        return self._held is None

    def show(self, view: RunView | None, detail: RunDetail | None) -> None:
        """Show the log of this run, and the reason if it failed."""
        run_id = view.run_id if view else ""
        lines = detail.log_lines if detail else (view.last_log_lines if view else ())
        reason = (view.status, view.note) if view and view.note else ("", "")
        if (run_id, lines, reason) == (self._run_id, self._newest, self._reason):
            return
        if run_id != self._run_id:
            self._held = None
        self._run_id, self._newest, self._reason = run_id, lines, reason
        self.redraw()

    def scroll_by(self, lines: int) -> None:
        """Scroll; away from the end the lines are frozen, at the end it follows again."""
        if self._held is None:
            self._top = self.bottom
        target = min(max(0, self._top + lines), self.bottom)
        if target >= self.bottom and lines > 0:
            self._held = None
        elif self._held is None and target < self.bottom:
            self._held = self._newest
        self._top = target
        self.redraw()

    def remark(self) -> str:
        """Whether the end is followed."""
        if self._held is None:
            return "following" if self._newest else ""
        news = "new lines below; " if self._held != self._newest else ""
        return f"not following, {news}End follows again"

    def follow(self) -> None:
        """Go to the end and follow it."""
        self._held = None
        self.redraw()

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """The wrapped lines, then the reason of a failure."""
        text, muted = colours.style("foreground"), colours.style("muted")
        shown = self._newest if self._held is None else self._held
        found: list[Line] = []
        if not shown:
            found.append([(" The log is empty.", muted)])
        for said in shown:
            style = _log_style(said, colours)
            found += [[(f" {part}", style)] for part in wrapped(said, max(10, width - 2))]
        status, reason = self._reason
        if reason:
            bad = colours.status(status, bold=True)
            found.append([])
            parts = wrapped(f"{status}: {reason}", max(10, width - 3))
            found += [[(" ▌", bad), (part, text)] for part in parts]
        if self._held is None:
            self._top = max(0, len(found) - self.rows)
        return found


def _log_style(said: str, colours: Colours) -> Style:
    lowered = said[:400].casefold()
    if any(word in lowered for word in ("error", "traceback", "killed", "segmentation")):
        return colours.style("error")
    return colours.style("warning" if "warn" in lowered else "foreground")


class ConfigPage(Page):
    """The configuration of a run, or where those of two runs differ."""

    title = "config.yaml"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: object = None
        self._lines: tuple[str, ...] = ()
        self._labels = ("", "")
        self._pair: tuple[Mapping[str, str], Mapping[str, str]] | None = None

    def show(self, detail: RunDetail | None) -> None:
        """Show the file of this run."""
        shown = (detail.run_id, detail.config_lines) if detail else None
        if shown == self._shown:
            return
        if not (isinstance(self._shown, tuple) and shown and self._shown[0] == shown[0]):
            self._top = 0
        self._shown, self._pair = shown, None
        self._lines = detail.config_lines if detail else ()
        self.title = "config.yaml"
        self.redraw()

    def compare(
        self, labels: tuple[str, str], pair: tuple[Mapping[str, str], Mapping[str, str]]
    ) -> None:
        """Show where two configurations differ."""
        shown = (labels, pair)
        if shown == self._shown:
            return
        if not (isinstance(self._shown, tuple) and self._shown[0] == labels):
            self._top = 0
        self._shown, self._labels, self._pair = shown, labels, pair
        self.title = "configurations compared"
        self.redraw()

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """The file, or the keys that differ with both values."""
        muted, text = colours.style("muted"), colours.style("foreground")
        if self._pair is not None:
            return self._difference(width, colours)
        if not self._lines:
            return [[(" This run has no config.yaml.", muted)]]
        found: list[Line] = []
        for raw in self._lines:
            key, colon, value = raw.partition(":")
            if colon and not key.lstrip().startswith(("#", "-", '"', "'")):
                found.append([(f" {key}", colours.style("primary")), (colon, muted), (value, text)])
            else:
                found.append([(f" {raw}", muted if raw.lstrip().startswith("#") else text)])
        return found

    def _difference(self, width: int, colours: Colours) -> list[Line]:
        assert self._pair is not None
        here, there = self._pair
        muted, text = colours.style("muted"), colours.style("foreground")
        first, second = colours.style("curve-1", bold=True), colours.style("curve-2", bold=True)
        different = list(differences(here, there))
        if not different:
            return [
                [(f" {self._labels[0]} and {self._labels[1]} have the same configuration.", text)]
            ]
        name = min(max(len(key) for key in different) + 2, max(14, width // 3))
        cell = max(8, (width - name - 4) // 2)
        found: list[Line] = []
        if width >= _SIDE_BY_SIDE:
            a, b = (fit(label, cell) for label in self._labels)
            found.append([(" " + fit("", name), muted), (a + "  ", first), (b, second)])
        for key in different:
            a, b = here.get(key, "-"), there.get(key, "-")
            if width >= _SIDE_BY_SIDE:
                found.append([(" " + fit(key, name), muted), (fit(a, cell) + "  ", text),
                              (fit(b, cell), text)])  # fmt: skip
            else:
                found += [
                    [(f" {key}", muted)],
                    [("   ", muted), (a, first)],
                    [("   ", muted), (b, second)],
                ]
        same = len(here.keys() | there.keys()) - len(different)
        found += [[], [(f" {_same(same)}", muted)]]
        return found


def _same(count: int) -> str:
    return f"{plural(count, 'other setting')} {'is' if count == 1 else 'are'} the same."


class SamplesPage(Page):
    """Samples the model generated during training, newest first."""

    title = "samples"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._shown: object = None
        self._samples: Sequence[tuple[str, str]] = ()

    def show(self, run_id: str, samples: Sequence[tuple[str, str]]) -> None:
        """Show texts with their headings."""
        shown = (run_id, tuple(samples))
        if shown == self._shown:
            return
        if not (isinstance(self._shown, tuple) and self._shown[0] == run_id):
            self._top = 0
        self._shown, self._samples = shown, samples
        self.redraw()

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """Heading, text, a blank line."""
        muted, text = colours.style("muted"), colours.style("foreground")
        if not self._samples:
            return [
                [(" No samples: this run writes none during training.", muted)],
                [(" `trainer generate` samples from any checkpoint.", muted)],
            ]
        found: list[Line] = []
        for heading, said in self._samples:
            found.append([(f" {heading}", colours.style("primary", bold=True))])
            found += [[("   " + part, text)] for part in wrapped(said, max(10, width - 4))]
            found.append([])
        return found


def age_of(now: float, moment: float | None) -> str:
    """How long ago, in words; empty when unknown."""
    if moment is None:
        return ""
    age = ago(now - moment)
    return age if age == "now" else f"{age} ago"
