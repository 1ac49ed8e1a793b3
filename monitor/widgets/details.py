"""Everything else about the selected run: facts on one side, events on the other."""

from __future__ import annotations

from rich.cells import cell_len
from rich.style import Style

from monitor.data.views import RunDetail, RunView, StageView
from monitor.palette import Colours
from monitor.widgets.cells import fit, line, number, thousands, wrapped
from monitor.widgets.page import Line, Page
from monitor.widgets.run_pages import age_of, event_line, kind_width
from shared.control.daemons import restarted_by
from shared.text import format_count, format_duration, format_time

_SIDE_BY_SIDE = 108  # columns from which facts and events are side by side
_HALF = 50  # columns of the facts, more where one of them needs it
_LABEL = 15


class Details(Page):
    """Facts, events, configuration, in one column or two."""

    title = "details"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: RunView | None = None
        self._detail: RunDetail | None = None
        self._now = 0.0
        self._watched = False

    def show(
        self, view: RunView | None, detail: RunDetail | None, now: float, *, watched: bool
    ) -> None:
        """Show this run; a different one begins at its top. `watched`: a daemon is at work."""
        if (view and view.run_id) != (self._view and self._view.run_id):
            self._top = 0
        self._view, self._detail, self._now, self._watched = view, detail, now, watched
        self.redraw()

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """The whole page."""
        view, detail = self._view, self._detail
        if view is None:
            return []
        ending, facts = self._ending(view, detail, colours), self._facts(view, detail, colours)
        events = self._events(detail, colours)
        config = _config(detail, colours)
        if width < _SIDE_BY_SIDE:
            return [*ending, *facts, *events, *config]
        longest = max((_cells(fact) for fact in facts), default=0)
        half = min(max(_HALF, longest + 1), width // 2)
        left = [*facts, *config]
        right = [*ending, *events]
        page: list[Line] = []
        for index in range(max(len(left), len(right))):
            first = left[index] if index < len(left) else []
            second = right[index] if index < len(right) else []
            page.append([*_padded(first, half, colours), ("│", colours.style("faint")), *second])
        return page

    def _ending(self, view: RunView, detail: RunDetail | None, colours: Colours) -> list[Line]:
        """Why the run ended and its last log lines, or its alarm while it runs."""
        text = colours.style("foreground")
        alarm: list[Line] = []
        if view.alarm:
            alarm = [[(" alarm", colours.style("warning", bold=True))]]
            alarm += [[(f" {part}", text)] for part in wrapped(view.alarm, 76)]
            alarm.append([])
        if not (view.reason or view.last_log_lines):
            return alarm
        bad = colours.status(view.status, bold=True)
        code = "" if view.exit_code is None else f" (exit code {view.exit_code})"
        lines: list[Line] = [[(f" {view.status}{code}", bad)]]
        lines += [[(f" {part}", text)] for part in wrapped(view.reason, 76)]
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
            trained = model.pop("trained", "")
            rest = "  ".join(f"{k} {v}" for k, v in model.items())
            pairs.append(("model", "  ".join(x for x in (shown, rest) if x)))
            pairs.append(("parameters", _count(parameters)))
            pairs.append(("trained", _count(trained)))
        pairs += [
            ("pipeline", f"{view.group}, {view.stage}" if view.stage else ""),
            *(("stage", _stage(stage)) for stage in (detail.stages if detail else ())),
            (
                "sweep",
                "" if view.stage else view.group + ("  ★ best setting" if view.is_best else ""),
            ),
            ("device", view.device),
            ("process", f"{view.pid} on {view.host}" if view.pid else view.host),
            ("attempt", str(view.attempt) if view.attempt else ""),
            (
                "restarted by",
                restarted_by(supervised=view.supervised, status=view.status, watched=self._watched),
            ),
            ("micro-batch", f"{view.micro_batch} (memory)" if view.micro_batch else ""),
            ("started", format_time(view.started_at)),
            ("ended", format_time(view.ended_at)),
            ("trained for", format_duration(view.trained_seconds)),
            ("updated", age_of(self._now, view.updated_at)),
            ("tags", " ".join(f"#{tag}" for tag in view.tags)),
            ("tokens", format_count(view.tokens_total) if view.tokens_total else ""),
            ("speed", _rate(view.tokens_per_second)),
            ("MFU", f"{newest['mfu']:.1%}" if "mfu" in newest else ""),
            ("passes", passes(view)),
            ("best", best(view)),
            (
                "learning rate",
                number(newest.get("learning_rate")) if "learning_rate" in newest else "",
            ),
            ("gradient norm", number(newest["gradient_norm"]) if "gradient_norm" in newest else ""),
            ("step time", _milliseconds(newest.get("step_time_ms"))),
            ("commit", view.git_commit[:12]),
        ]
        if detail and detail.read_as:
            pairs.append(("read as", detail.read_as))
        muted, text = colours.style("muted"), colours.style("foreground")
        lines = [[(" " + fit(k, _LABEL), muted), (v, text)] for k, v in pairs if v and v != "-"]
        note = wrapped(view.note_text, 60) if view.note_text else []
        for index, part in enumerate(note):
            label = "note" if index == 0 else ""
            lines.append([(" " + fit(label, _LABEL), muted), (part, colours.style("tag"))])
        unread = wrapped(detail.unread, 60) if detail and detail.unread else []
        for index, part in enumerate(unread):
            label = "unreadable" if index == 0 else ""
            lines.append([(" " + fit(label, _LABEL), muted), (part, text)])
        return [*lines, []]

    def _events(self, detail: RunDetail | None, colours: Colours) -> list[Line]:
        if not detail or not detail.events:
            return []
        muted = colours.style("muted")
        lines: list[Line] = [[(" events, newest first", muted)]]
        column = kind_width(detail.events)
        lines += [event_line(e, colours, column) for e in reversed(detail.events)]
        return [*lines, []]


def _config(detail: RunDetail | None, colours: Colours) -> list[Line]:
    if not detail or not detail.config_lines:
        return []
    muted, text = colours.style("muted"), colours.style("foreground")
    return [[(" config.yaml", muted)], *[[(f" {x}", text)] for x in detail.config_lines]]


def _cells(pieces: Line) -> int:
    return sum(cell_len(text) for text, _ in pieces)


def _padded(pieces: Line, width: int, colours: Colours) -> Line:
    strip = line(pieces, width, Style.null())
    return [(s.text, s.style or colours.style("foreground")) for s in strip]


def _stage(stage: StageView) -> str:
    spent = format_duration(stage.seconds) if stage.seconds else ""
    return "  ".join(x for x in (f"{fit(stage.name, 11)} {stage.status}", spent, stage.text) if x)


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


def time_left(view: RunView) -> str:
    """The time left; empty if it is unknown or the run is not advancing."""
    if view.eta_seconds is None or not view.alive or view.status == "paused":
        return ""
    return format_duration(view.eta_seconds)


def passes(view: RunView) -> str:
    """Forward and backward passes. What predictions save can be told only against another run."""
    if not (view.total_forward or view.total_backward):
        return ""
    return f"{thousands(view.total_forward)} forward, {thousands(view.total_backward)} back"


def best(view: RunView) -> str:
    """The best value, its step, and the metric."""
    if view.best_loss is None:
        return ""
    at = "" if view.best_step is None else f" @ {thousands(view.best_step)}"
    metric = f" ({view.best_metric})" if view.best_metric else ""
    return f"{number(view.best_loss)}{at}{metric}"
