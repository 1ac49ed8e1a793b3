"""Everything else about the selected run: facts on one side, what happened on the other."""

from __future__ import annotations

import time

from rich.style import Style
from textual.strip import Strip

from monitor.data.views import EventView, RunDetail, RunView
from monitor.theme import Colours
from monitor.widgets.cells import Piece, ago, fit, line, number, thousands
from monitor.widgets.panel import Panel
from shared.text import format_count

_SIDE_BY_SIDE = 96  # columns from which facts and events lie beside each other
_LABEL = 15
_BAD_EVENTS = frozenset(
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

Line = list[Piece]


class Details(Panel):
    """A page to scroll through, in one column or two."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: RunView | None = None
        self._detail: RunDetail | None = None
        self._now = 0.0
        self._top = 0
        self._length = 0

    def show(self, view: RunView | None, detail: RunDetail | None, now: float) -> None:
        """Show this run; a different one begins at its top."""
        if (view and view.run_id) != (self._view and self._view.run_id):
            self._top = 0
        self._view, self._detail, self._now = view, detail, now
        self.redraw()

    def scroll_by(self, pages: int) -> None:
        """Scroll by pages, down if positive."""
        step = max(1, self.size.height - 2)
        bottom = max(0, self._length - (self.size.height - 1))
        self._top = min(max(0, self._top + pages * step), bottom)
        self.redraw()

    def on_mouse_scroll_down(self) -> None:
        """Scroll with the wheel."""
        self.scroll_by(1)

    def on_mouse_scroll_up(self) -> None:
        """Scroll with the wheel."""
        self.scroll_by(-1)

    def draw(self, width: int, height: int) -> list[Strip]:
        """A heading and the visible part of the page."""
        colours = self.colours
        page = self._page(width, colours)
        rows = max(0, height - 1)
        self._length = len(page)
        self._top = max(0, min(self._top, len(page) - rows))
        heading: Line = [(" details", colours.style("muted"))]
        if len(page) > rows:
            last = min(len(page), self._top + rows)
            heading.append((f" {self._top + 1}-{last} of {len(page)}", colours.style("muted")))
        strips = [line(heading, width, self.base + self.heading_style())]
        strips += [line(x, width, self.base) for x in page[self._top : self._top + rows]]
        return strips

    def _page(self, width: int, colours: Colours) -> list[Line]:
        view, detail = self._view, self._detail
        if view is None:
            return []
        ending, facts = self._ending(view, detail, colours), self._facts(view, detail, colours)
        events = self._events(detail, colours)
        config = _config(detail, colours)
        if width < _SIDE_BY_SIDE:
            return [*ending, *facts, *events, *config]
        half = min(54, width // 2)
        left = [*facts, *config]
        right = [*ending, *events]
        page: list[Line] = []
        for index in range(max(len(left), len(right))):
            first = left[index] if index < len(left) else []
            second = right[index] if index < len(right) else []
            page.append([*_padded(first, half, colours), ("│", colours.style("faint")), *second])
        return page

    def _ending(self, view: RunView, detail: RunDetail | None, colours: Colours) -> list[Line]:
        """Why the run is not at work, and what it said last; or what is wrong while it is."""
        text = colours.style("foreground")
        alarm: list[Line] = []
        if view.alarm:
            alarm = [[(" alarm", colours.style("warning", bold=True))]]
            alarm += [[(f" {part}", text)] for part in _folded(view.alarm, 76)]
            alarm.append([])
        if not (view.reason or view.last_log_lines):
            return alarm
        bad = colours.status(view.status, bold=True)
        code = "" if view.exit_code is None else f" (exit code {view.exit_code})"
        lines: list[Line] = [[(f" {view.status}{code}", bad)]]
        lines += [[(f" {part}", text)] for part in _folded(view.reason, 76)]
        said = view.last_log_lines or (detail.log_lines if detail else ())
        if said:
            lines.append([(" last log lines", colours.style("muted"))])
            lines += [[(" ▏", bad), (said_line, text)] for said_line in said]
        lines.append([])
        return [*alarm, *lines]

    def _facts(self, view: RunView, detail: RunDetail | None, colours: Colours) -> list[Line]:
        newest = dict(detail.newest) if detail else {}
        pairs: list[tuple[str, str]] = [("run", view.label)]
        model = dict(view.model)
        if model:
            shown = model.pop("name", "")
            parameters = model.pop("parameters", "")
            rest = "  ".join(f"{k} {v}" for k, v in model.items())
            pairs.append(("model", "  ".join(x for x in (shown, rest) if x)))
            pairs.append(("parameters", _count(parameters)))
        pairs += [
            ("device", view.device),
            ("process", f"{view.pid} on {view.host}" if view.pid else view.host),
            ("attempt", str(view.attempt) if view.attempt else ""),
            ("restarted by", "a daemon, if it crashes" if view.supervised else ""),
            ("micro-batch", f"{view.micro_batch} (memory)" if view.micro_batch else ""),
            ("started", _clock_time(view.started_at)),
            ("ended", _clock_time(view.ended_at)),
            ("updated", _age(self._now, view.updated_at)),
            ("tokens", format_count(view.tokens_total) if view.tokens_total else ""),
            ("speed", _rate(view.tokens_per_second)),
            ("passes", _passes(view)),
            (
                "learning rate",
                number(newest.get("learning_rate")) if "learning_rate" in newest else "",
            ),
            ("gradient norm", number(newest["gradient_norm"]) if "gradient_norm" in newest else ""),
            ("step time", _milliseconds(newest.get("step_time_ms"))),
            ("commit", view.git_commit[:12]),
        ]
        if detail and detail.bad_lines:
            pairs.append(("unreadable", f"{thousands(detail.bad_lines)} lines of metrics.jsonl"))
        muted, text = colours.style("muted"), colours.style("foreground")
        lines = [[(" " + fit(k, _LABEL), muted), (v, text)] for k, v in pairs if v and v != "-"]
        return [*lines, []]

    def _events(self, detail: RunDetail | None, colours: Colours) -> list[Line]:
        if not detail or not detail.events:
            return []
        muted = colours.style("muted")
        lines: list[Line] = [[(" what happened, newest first", muted)]]
        lines += [_event_line(e, colours) for e in reversed(detail.events)]
        return [*lines, []]


def _event_line(event: EventView, colours: Colours) -> Line:
    muted, text = colours.style("muted"), colours.style("foreground")
    kind = colours.style("warning") if event.kind in _BAD_EVENTS else colours.style("primary")
    when = "" if event.time is None else _hour(event.time)
    step = "" if event.step is None else thousands(event.step)
    return [
        (" " + fit(when, 9), muted),
        (fit(step, 9, right=True) + "  ", muted),
        (fit(event.kind, 17) + " ", kind),
        (event.text, text),
    ]


def _config(detail: RunDetail | None, colours: Colours) -> list[Line]:
    if not detail or not detail.config_lines:
        return []
    muted, text = colours.style("muted"), colours.style("foreground")
    return [[(" config.yaml", muted)], *[[(f" {x}", text)] for x in detail.config_lines]]


def _padded(pieces: Line, width: int, colours: Colours) -> Line:
    strip = line(pieces, width, Style.null())
    return [(s.text, s.style or colours.style("foreground")) for s in strip]


def _folded(text: str, width: int) -> list[str]:
    return [text[i : i + width] for i in range(0, len(text), width)]


def _count(text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        return text
    return f"{format_count(value)} ({value:,.0f})" if abs(value) < 1e18 else text


def _rate(value: float | None) -> str:
    return f"{format_count(value)} tokens/s" if value else ""


def _milliseconds(value: float | None) -> str:
    return f"{number(value)} ms" if value is not None else ""


def _passes(view: RunView) -> str:
    if not (view.total_forward or view.total_backward):
        return ""
    text = f"{thousands(view.total_forward)} forward, {thousands(view.total_backward)} back"
    saved = view.total_forward - view.total_backward
    if view.total_forward and saved > 0:
        text += f" ({saved / view.total_forward:.0%} saved)"
    return text


def _hour(moment: float) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(moment))
    except (ValueError, OverflowError, OSError):
        return "-"


def _clock_time(moment: float | None) -> str:
    if moment is None:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
    except (ValueError, OverflowError, OSError):
        return "-"


def _age(now: float, moment: float | None) -> str:
    if moment is None:
        return ""
    age = ago(now - moment)
    return age if age == "now" else f"{age} ago"
