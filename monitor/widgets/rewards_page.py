"""Reinforcement learning in figures: rewards by part, rates, time, and what was warned of."""

from __future__ import annotations

import math

from rich.cells import cell_len

from monitor.data.views import RunDetail, RunView
from monitor.palette import Colours
from monitor.reinforcement import DETAIL, SPREAD, Course, Reinforcement, Row, reinforcement
from monitor.widgets.cells import fit, number, thousands, wrapped
from monitor.widgets.dynamics_page import phases, troubles
from monitor.widgets.page import Line, Page
from monitor.widgets.run_list import sparkline
from shared.text import format_duration

_LABEL = 18
_VALUE = 9
_LEAST_CURVE, _MOST_CURVE = 8, 24
_GAP = 2


class RewardsPage(Page):
    """Every figure in training and on held-out tasks: now, at first, and as a small curve."""

    title = "rewards"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: RunView | None = None
        self._detail: RunDetail | None = None
        self._known: tuple[object, Reinforcement] = (None, Reinforcement())

    def show(self, view: RunView | None, detail: RunDetail | None) -> None:
        """Show this run; another one begins at its top."""
        if (view and view.run_id) != (self._view and self._view.run_id):
            self._top = 0
        if view is not self._view or detail is not self._detail:
            self._view, self._detail = view, detail
            self.redraw()

    def _found(self) -> Reinforcement:
        detail = self._detail
        if detail is None:
            return Reinforcement()
        key = (detail.run_id, detail.version, detail.approximate, detail.events[-1:])
        if self._known[0] != key:
            self._known = (key, reinforcement(detail))
        return self._known[1]

    def remark(self) -> str:
        """How far it is."""
        iteration = self._found().iteration
        return "" if iteration is None else f"iteration {thousands(iteration)}"

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """Warnings, figures, time, problems, phases."""
        view, detail, found = self._view, self._detail, self._found()
        if view is None or detail is None or not found.rows:
            text = "No rewards yet: they come with the first iteration."
            return [[(f" {part}", colours.style("muted"))] for part in wrapped(text, width - 2)]
        return [
            *_advice(found, width, colours),
            *_table(found.rows, width, colours),
            *_time(found, width, colours),
            *troubles(detail, colours),
            *phases(view, width, colours),
        ]


def _table(rows: tuple[Row, ...], width: int, colours: Colours) -> list[Line]:
    held_out = any(row.held_out for row in rows)
    halves = 2 if held_out else 1
    room = width - _LABEL - 2 - (halves - 1) * _GAP
    first = room // halves >= 2 * _VALUE + 2 + _LEAST_CURVE
    values = 2 if first else 1
    curve = min(_MOST_CURVE, room // halves - values * _VALUE - 2)
    half = values * _VALUE + 2 + curve
    muted = colours.style("muted")

    def titles(name: str) -> str:
        title = fit(name, _VALUE, right=True) + fit("at first", _VALUE, right=True) * first
        return fit(title, half)

    heading: Line = [(" " * (_LABEL + 1) + titles("training"), muted)]
    if held_out:
        heading.append((" " * _GAP + titles("held out"), muted))
    lines = [heading]
    for row in rows:
        label = "  " * (row.kind in (DETAIL, SPREAD)) + row.label
        text = colours.style("foreground", bold=not row.kind)
        pieces: Line = [(" " + fit(label, _LABEL), muted if row.kind else text)]
        pieces += _half(row, row.training, curve, colours, first=first)
        if held_out:
            pieces.append((" " * _GAP, muted))
            pieces += _half(row, row.held_out, curve, colours, first=first)
        lines.append(pieces)
    return lines


def _half(row: Row, course: Course | None, curve: int, colours: Colours, *, first: bool) -> Line:
    muted = colours.style("muted")
    if course is None:
        return [(" " * (_VALUE * (1 + first) + 2 + curve), muted)]
    text = colours.style("foreground", bold=not row.kind)
    pieces: Line = [(fit(_shown(row, course.now), _VALUE, right=True), text)]
    if first:
        pieces.append((fit(_shown(row, course.first), _VALUE, right=True), muted))
    return [*pieces, ("  ", muted), *sparkline(course.curve, curve, colours)]


def _shown(row: Row, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "-"
    if row.is_share and abs(value) < 10:
        return f"{value:.1%}"
    return number(value, 3)


def _time(found: Reinforcement, width: int, colours: Colours) -> list[Line]:
    """A bar of what an iteration consists of."""
    spent = found.time
    if spent is None:
        return []
    muted, text = colours.style("muted"), colours.style("foreground")
    parts = (
        ("answers", spent.rollout, "curve-1", "━"),
        ("judging", spent.reward, "curve-2", "╍"),
        ("steps", spent.step, "curve-3", "┄"),
    )
    took = format_duration(spent.total) if spent.total >= 10 else f"{spent.total:.2g}s"
    told: Line = [(" " + fit("an iteration", _LABEL), muted), (fit(took, _VALUE, right=True), text)]
    for name, seconds, ink, sign in parts:
        told += [(f"  {sign} ", colours.style(ink, bold=True)), (f"{name} ", muted)]
        told.append((f"{seconds / spent.total:.0%}", text))
    room = max(0, width - 2)
    bar: Line = [(" ", muted)]
    edges = [0.0]
    for _, seconds, _, _ in parts:
        edges.append(edges[-1] + seconds / spent.total)
    for (_, _, ink, sign), begin, end in zip(parts, edges, edges[1:], strict=False):
        bar.append((sign * (round(end * room) - round(begin * room)), colours.style(ink)))
    return [[], told, bar]


def _advice(found: Reinforcement, width: int, colours: Colours) -> list[Line]:
    if not found.advice:
        return []
    muted = colours.style("muted")
    lines: list[Line] = [[(" what the curves suggest", muted)]]
    for event in found.advice:
        step = "" if event.step is None else f"step {thousands(event.step)}: "
        for index, part in enumerate(wrapped(step + event.text, max(16, width - 2))):
            head = step if index == 0 and part.startswith(step) else ""
            pieces: Line = [
                (" ", muted),
                (head, muted),
                (part[len(head) :], colours.style("warning")),
            ]
            lines.append([piece for piece in pieces if cell_len(piece[0])])
    return [*lines, []]
