"""How the main metric has been moving lately, and which phases the run went through."""

from __future__ import annotations

from rich.cells import cell_len

from monitor.data.main_metric import is_cost
from monitor.data.views import RunDetail, RunView
from monitor.dynamics import Dynamics, dynamics
from monitor.palette import Colours
from monitor.widgets.cells import fit, fit_middle, number, thousands, wrapped
from monitor.widgets.page import Line, Page
from monitor.widgets.run_pages import BAD_EVENTS, event_line, kind_width
from shared.text import plural

_LABEL = 17
_TROUBLES = 8  # lines
_PHASES = 200


class DynamicsPage(Page):
    """Slope, gap, gradient norm, spikes; then the phases."""

    title = "dynamics"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._view: RunView | None = None
        self._detail: RunDetail | None = None
        self._main = ""
        self._known: tuple[object, Dynamics] = (None, Dynamics())

    def show(self, view: RunView | None, detail: RunDetail | None, main: str = "") -> None:
        """Show this run, by its metric `main` if it has it; another run begins at its top."""
        if (view and view.run_id) != (self._view and self._view.run_id):
            self._top = 0
        if view is not self._view or detail is not self._detail or main != self._main:
            self._view, self._detail, self._main = view, detail, main
            self.redraw()

    @property
    def window(self) -> tuple[int, int]:
        """The first and the last step of what "lately" means."""
        found = self._found()
        return found.first_step, found.last_step

    def _found(self) -> Dynamics:
        detail = self._detail
        if detail is None:
            return Dynamics()
        key = (detail.run_id, detail.version, detail.approximate, self._main)
        if self._known[0] != key:
            self._known = (key, dynamics(detail, self._main))
        return self._known[1]

    def remark(self) -> str:
        """What "lately" means here."""
        found = self._found()
        if not found.values:
            return ""
        return f"steps {thousands(found.first_step)} to {thousands(found.last_step)}"

    def lines(self, width: int, colours: Colours) -> list[Line]:
        """Facts, troubles, phases."""
        view, detail = self._view, self._detail
        found = self._found()
        if view is None or detail is None or not found.values:
            why = detail.why_empty if detail else ""
            text = why or "No metrics yet: they begin with the first step."
            return [[(f" {part}", colours.style("muted"))] for part in wrapped(text, width - 2)]
        return [
            *_folded(_movement(found, colours), width),
            [],
            *_folded(_gradients(found, colours), width),
            *_folded(_spikes(found, colours), width),
            *_advice(found, width, colours),
            *troubles(detail, colours),
            *phases(view, width, colours),
        ]


def _row(label: str, value: str, told: str, colours: Colours, style: str = "foreground") -> Line:
    return [
        (" " + fit(label, _LABEL), colours.style("muted")),
        (fit(value, 12) + " ", colours.style(style, bold=style != "foreground")),
        (told, colours.style("muted")),
    ]


def _folded(rows: list[Line], width: int) -> list[Line]:
    """What is told of a figure goes on in the next line, under itself, where it is too long."""
    lines: list[Line] = []
    for label, value, (told, style) in rows:
        indent = cell_len(label[0]) + cell_len(value[0])
        first, *more = wrapped(told, max(16, width - indent - 1))
        lines += [[label, value, (first, style)], *[[(" " * indent + x, style)] for x in more]]
    return lines


def _movement(found: Dynamics, colours: Colours) -> list[Line]:
    lines = [
        _row(
            fit_middle(found.key, _LABEL - 7) + ", mean",
            number(found.mean),
            f"over the last {plural(found.values, 'value')}",
            colours,
        )
    ]
    if found.slope is not None:
        style = "foreground"
        if is_cost(found.key):
            style = {"falling": "success", "rising": "warning"}.get(found.trend, style)
        told = f"{found.trend}, per 1,000 steps; noise ±{number(found.noise, 3)}"
        lines.append(_row("slope", _signed(found.slope), told, colours, style))
    if found.gap is not None:
        step = "" if found.val_step is None else f" at {thousands(found.val_step)}"
        told = f"val minus train{step}"
        style = "foreground"
        if found.gap_before is not None:
            change = found.gap - found.gap_before
            told += f", {_signed(change)} since last"
            worse = is_cost(found.key) and found.gap > 0 and change > 0
            style = "warning" if worse else "foreground"
        lines.append(_row("train/val gap", _signed(found.gap), told, colours, style))
    if found.nonfinite:
        told = f"{'value' if found.nonfinite == 1 else 'values'} in the window, NaN or infinite"
        lines.append(_row("nan or inf", thousands(found.nonfinite), told, colours, "nonfinite"))
    return lines


def _gradients(found: Dynamics, colours: Colours) -> list[Line]:
    if found.gradient_norm is None:
        return []
    told = f"median {number(found.gradient_median)}"
    if found.gradient_max is not None and found.gradient_max_step is not None:
        told += f", max {number(found.gradient_max)} at step {thousands(found.gradient_max_step)}"
    high = found.gradient_median is not None and found.gradient_norm > 4 * found.gradient_median
    style = "warning" if high else "foreground"
    return [_row("gradient norm", number(found.gradient_norm), told, colours, style)]


def _spikes(found: Dynamics, colours: Colours) -> list[Line]:
    shown = ", ".join(
        f"{thousands(step)} ({number(value, 3)})" for step, value in found.spikes[-4:]
    )
    told = f"at {shown}" if shown else "no value is far above the others"
    style = "outside" if found.spikes else "foreground"
    return [_row("spikes", str(len(found.spikes)), told, colours, style)]


def _advice(found: Dynamics, width: int, colours: Colours) -> list[Line]:
    if not found.advice:
        return []
    lines: list[Line] = [[], [(" what the curves suggest", colours.style("muted"))]]
    for advice in found.advice:
        for style, text in (("warning", advice.text), ("muted", advice.evidence)):
            lines += [[(f" {part}", colours.style(style))] for part in wrapped(text, width - 2)]
    return lines


def troubles(detail: RunDetail, colours: Colours) -> list[Line]:
    """The newest events that tell of a problem."""
    bad = [e for e in detail.events if e.kind in BAD_EVENTS][-_TROUBLES:]
    if not bad:
        return []
    column = kind_width(bad)
    return [
        [],
        [(" problems, newest first", colours.style("muted"))],
        *[event_line(event, colours, column) for event in reversed(bad)],
    ]


def phases(view: RunView, width: int, colours: Colours) -> list[Line]:
    """The share of each phase, and the transitions."""
    if not view.transitions:
        return []
    muted, text = colours.style("muted"), colours.style("foreground")
    shown = view.transitions[-_PHASES:]
    styles = colours.phases([*(t.to for t in view.transitions), view.phase])
    ends = [t.step for t in shown[1:]] + [view.step]
    spent: dict[str, int] = {}
    for transition, end in zip(shown, ends, strict=True):
        spent[transition.to] = spent.get(transition.to, 0) + max(0, end - transition.step)
    total = sum(spent.values()) or 1
    bar = max(10, min(width - 2, 100))
    lines: list[Line] = [[], [(" phases", muted)]]
    share: Line = [(" ", text)]
    for name, steps in spent.items():
        share.append(("━" * max(1, round(bar * steps / total)), styles[name]))
    lines.append(share)
    for name, steps in spent.items():
        told = f"{plural(steps, 'step')}, {steps / total:.0%}"
        lines.append([(" ■ ", styles[name]), (fit(name, _LABEL - 2), text), (told, muted)])
    lines += [[], [(" transitions, newest first", muted)]]
    for transition, end in zip(reversed(shown), reversed(ends), strict=True):
        lines.append(
            [
                (fit(thousands(transition.step), 11, right=True) + "  ", muted),
                (fit(transition.from_phase or "start", 12), muted),
                (" → ", muted),
                (fit(transition.to, 12), styles[transition.to]),
                (f" {plural(max(0, end - transition.step), 'step')}", muted),
            ]
        )
    return lines


def _signed(value: float) -> str:
    text = number(value, 3)
    return text if text.startswith("-") else f"+{text}"
