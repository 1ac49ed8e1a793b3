"""The loss curve: training and validation over steps, on the extremes of every column."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
from rich.style import Style
from textual.strip import Strip

from monitor.data.envelope import (
    NAN,
    NEGATIVE,
    POSITIVE,
    Envelope,
    Scale,
    choose_scale,
    empty_envelope,
    nice_ticks,
    reduce,
    step_range,
)
from monitor.data.views import RunDetail, RunView
from monitor.widgets.cells import Piece, line, number, spread, thousands
from monitor.widgets.panel import Panel
from monitor.widgets.raster import BLANK, Polyline, braille, merge
from shared.metrics_log import Series
from shared.records import PhaseTransition
from shared.text import one_line

_ROWS_AROUND = 3  # heading, axis, step labels
_ROWS_PER_TICK = 2.5
_COLUMNS_PER_TICK = 12

Cell = tuple[str, str]  # a character and the name of its colour


class Chart(Panel):
    """Draws `loss` and `val_loss` of one run."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._detail: RunDetail | None = None
        self._view: RunView | None = None
        self._shown: object = None

    def show(self, view: RunView | None, detail: RunDetail | None) -> None:
        """Show this run. Does nothing if its curve is the same as before."""
        shown = (
            view and (view.run_id, view.transitions, view.best_loss, view.best_step),
            detail and (detail.run_id, detail.version, detail.loading),
        )
        self._view, self._detail = view, detail
        if shown != self._shown:
            self._shown = shown
            self.redraw()

    def draw(self, width: int, height: int) -> list[Strip]:
        """Heading, canvas, axis and step labels."""
        detail = self._detail
        rows = height - _ROWS_AROUND
        series = (detail.loss, detail.val_loss) if detail else ()
        steps = step_range(series)
        if detail is None or steps is None or rows < 2 or width < 24:
            return self._draw_nothing(width, height)
        first, last = steps
        # The width of the labels depends on the scale, which depends on the columns: guess once.
        scale = choose_scale(reduce(s, 2 * width, first, last) for s in series)
        ticks = nice_ticks(scale.low, scale.high, max(2, int(rows / _ROWS_PER_TICK)))
        labels = tick_labels(ticks)
        gutter = max((len(x) for x in labels), default=1) + 3
        columns = max(2, width - gutter - 1)
        envelopes = [reduce(s, 2 * columns, first, last) for s in series]
        scale = choose_scale(envelopes)
        ticks = nice_ticks(scale.low, scale.high, max(2, int(rows / _ROWS_PER_TICK)))
        labels = tick_labels(ticks)
        grid = draw_canvas(envelopes, scale, columns, rows)
        at_row = {row_of(t, scale, rows): label for t, label in zip(ticks, labels, strict=True)}
        strips = [self._heading(envelopes, scale, width)]
        strips += [self._canvas_line(grid[y], at_row.get(y), gutter, width) for y in range(rows)]
        strips += self._axis(first, last, gutter, columns, width)
        return strips

    # -- the parts -----------------------------------------------------------------------

    def _draw_nothing(self, width: int, height: int) -> list[Strip]:
        colours, detail = self.colours, self._detail
        muted = colours.style("muted")
        if self._view is None:
            text = ""
        elif detail is None or detail.loading is not None:
            text = "reading metrics.jsonl…"
        else:
            text = "No metrics yet: the curve begins with the first step."
        heading = line([(" loss", muted)], width, self.base + self.heading_style())
        blank = Strip.blank(width, self.base)
        rows = [blank] * max(0, height - 1)
        if rows and len(text) <= width:
            indent = " " * ((width - len(text)) // 2)
            rows[len(rows) // 2] = line([(indent + text, muted)], width, self.base)
        return [heading, *rows]

    def _heading(self, envelopes: Sequence[Envelope], scale: Scale, width: int) -> Strip:
        assert self._detail is not None
        colours, detail = self.colours, self._detail
        muted, text = colours.style("muted"), colours.style("foreground")
        left: list[Piece] = []
        for name, series, label in (
            ("train", detail.loss, one_line(detail.loss.key, 24)),
            ("val", detail.val_loss, "val"),
        ):
            if len(series):
                left += [
                    (" ━ ", colours.style(name, bold=True)),
                    (f"{label} ", muted),
                    (number(float(series.values[-1])), text),
                    (" ", text),
                ]
        if self._view and self._view.best_loss is not None:
            left += [("  best ", muted), (number(self._view.best_loss), text)]
            if self._view.best_step is not None:
                left += [(f" @ {thousands(self._view.best_step)}", muted)]
        right: list[Piece] = []
        nonfinite = sum(e.nonfinite for e in envelopes)
        if nonfinite:
            right += [(f"✕ {thousands(nonfinite)} nan/inf ", colours.style("nonfinite", bold=True))]
        if scale.above:
            top = max(float(np.nanmax(e.high)) for e in envelopes if not e.is_empty)
            right += [(f"▲ up to {number(top, 3)} ", colours.style("outside", bold=True))]
        if scale.below:
            low = min(float(np.nanmin(e.low)) for e in envelopes if not e.is_empty)
            right += [(f"▼ down to {number(low, 3)} ", colours.style("outside", bold=True))]
        if detail.loading is not None:
            right += [(f"reading {detail.loading:.0%} ", colours.style("primary"))]
        return spread(left, right, width, self.base + self.heading_style())

    def _canvas_line(self, cells: list[Cell], label: str | None, gutter: int, width: int) -> Strip:
        colours = self.colours
        muted, faint = colours.style("muted"), colours.style("faint")
        if label is None:
            pieces: list[Piece] = [(" " * (gutter - 1), muted), ("│", faint)]
        else:
            pieces = [(label.rjust(gutter - 2) + " ", muted), ("┤", faint)]
            cells = [("┈", "rail") if c[0] == BLANK else c for c in cells]
        styles: dict[str, Style] = {}
        start = 0
        for end in range(1, len(cells) + 1):
            if end == len(cells) or cells[end][1] != cells[start][1]:
                name = cells[start][1]
                if name not in styles:
                    styles[name] = colours.style(name, bold=name in ("nonfinite", "outside"))
                text = "".join(c for c, _ in cells[start:end])
                pieces.append((text.replace(BLANK, " "), styles[name]))
                start = end
        return line(pieces, width, self.base)

    def _axis(self, first: int, last: int, gutter: int, columns: int, width: int) -> list[Strip]:
        colours = self.colours
        muted = colours.style("muted")
        ticks = step_ticks(first, last, columns)
        at = {column_of(step, first, last, columns): step for step in ticks}
        transitions = self._view.transitions if self._view else ()
        phases = phase_columns(transitions, first, last, columns)
        styles = colours.phases(t.to for t in transitions)
        plain = colours.style("faint")
        axis: list[Piece] = [(" " * (gutter - 1), muted), ("└", plain)]
        for column, phase in enumerate(phases):
            rail = "━" if phase else "─"
            tick = "┯" if phase else "┬"
            axis.append((tick if column in at else rail, styles.get(phase, plain)))
        labels = [" "] * width
        for column, step in at.items():
            text = short_step(step)
            start = min(gutter + column - len(text) // 2, width - len(text))
            if all(c == " " for c in labels[max(0, start - 1) : start + len(text) + 1]):
                labels[start : start + len(text)] = text
        return [
            line(axis, width, self.base),
            line([("".join(labels), muted)], width, self.base),
        ]


# -- pure drawing, tested without an app ---------------------------------------------------


def draw_canvas(
    envelopes: Sequence[Envelope], scale: Scale, columns: int, rows: int
) -> list[list[Cell]]:
    """`rows` lines of `columns` cells: the curves, and a mark for every column that needs one."""
    train, val = (*envelopes, empty_envelope(2 * columns))[:2]
    grid: list[list[Cell]] = [[(BLANK, "train")] * columns for _ in range(rows)]
    below = braille(polylines(val, scale, rows), columns, rows)
    above = braille(polylines(train, scale, rows), columns, rows)
    # Both curves often run together. There the training curve is seen, and on it the places
    # where the validation loss was measured; what only joins those lies below.
    known = np.isfinite(val.low).reshape(columns, 2)
    measured = known[:, 0] | known[:, 1]
    for y in range(rows):
        for x, (under, over) in enumerate(zip(below[y], above[y], strict=True)):
            if under != BLANK or over != BLANK:
                on_top = under != BLANK and (over == BLANK or measured[x])
                grid[y][x] = (merge(under, over), "val" if on_top else "train")
    for envelope in envelopes:
        _mark(grid, envelope, scale, columns, rows)
    return grid


def _mark(
    grid: list[list[Cell]], envelope: Envelope, scale: Scale, columns: int, rows: int
) -> None:
    """Off-scale columns at the edge they left by; non-finite ones from top to bottom."""
    with np.errstate(invalid="ignore"):
        above = (envelope.high > scale.high).reshape(columns, 2).any(axis=1)
        below = (envelope.low < scale.low).reshape(columns, 2).any(axis=1)
    pairs = envelope.marks.reshape(columns, 2)
    marks = pairs[:, 0] | pairs[:, 1]
    for x in np.flatnonzero(above):
        grid[0][x] = ("▲", "outside")
    for x in np.flatnonzero(below):
        grid[rows - 1][x] = ("▼", "outside")
    for x in np.flatnonzero(marks):
        for y in range(rows):
            if grid[y][x][0] == BLANK:
                grid[y][x] = ("╎", "nonfinite")
        if marks[x] & NEGATIVE:
            grid[rows - 1][x] = ("▼", "nonfinite")
        if marks[x] & POSITIVE:
            grid[0][x] = ("▲", "nonfinite")
        if marks[x] & NAN:
            grid[0][x] = ("✕", "nonfinite")


def polylines(envelope: Envelope, scale: Scale, rows: int) -> list[Polyline]:
    """The curve in dots: the whole extent of every column, joined, broken where it is not finite.

    Values outside the scale are drawn at its edge.
    """
    dots = 4 * rows - 1
    span = scale.high - scale.low
    with np.errstate(invalid="ignore"):
        low = np.rint(np.clip((envelope.low - scale.low) / span, 0, 1) * dots)
        high = np.rint(np.clip((envelope.high - scale.low) / span, 0, 1) * dots)
    lines: list[Polyline] = []
    xs: list[float] = []
    ys: list[float] = []
    for x in range(len(low)):
        bottom, top = float(low[x]), float(high[x])
        if math.isnan(bottom):
            if envelope.marks[x] and xs:
                lines.append((xs, ys))
                xs, ys = [], []
            continue
        near, far = bottom, top
        if ys and abs(ys[-1] - top) < abs(ys[-1] - bottom):
            near, far = top, bottom
        xs.append(x)
        ys.append(near)
        if far != near:
            xs.append(x)
            ys.append(far)
    if xs:
        lines.append((xs, ys))
    return lines


def row_of(value: float, scale: Scale, rows: int) -> int:
    """The line, counted from the top, in which `value` is drawn."""
    share = (value - scale.low) / (scale.high - scale.low)
    dot = round(min(1.0, max(0.0, share)) * (4 * rows - 1))
    return rows - 1 - dot // 4


def column_of(step: int, first: int, last: int, columns: int) -> int:
    """The column in which `step` is drawn."""
    return min(columns - 1, (step - first) * columns // (last - first + 1))


def step_ticks(first: int, last: int, columns: int) -> list[int]:
    """Round steps to label; both ends if nothing round lies between."""
    ticks = [int(t) for t in nice_ticks(first, last, max(1, columns // _COLUMNS_PER_TICK))]
    ticks = sorted({t for t in ticks if first <= t <= last})
    return ticks if len(ticks) > 1 else sorted({first, last})


def phase_columns(
    transitions: Sequence[PhaseTransition], first: int, last: int, columns: int
) -> list[str]:
    """The phase the run was in at the end of each column; empty before the first transition."""
    if not transitions:
        return [""] * columns
    ordered = sorted(transitions, key=lambda t: t.step)
    starts = [t.step for t in ordered]
    names: list[str] = []
    for column in range(columns):
        end = first + (column + 1) * (last - first + 1) // columns - 1
        index = bisect.bisect_right(starts, max(first, end)) - 1
        names.append(ordered[index].to if index >= 0 else ordered[0].from_phase)
    return names


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """Labels of the value axis, all with the same number of decimals."""
    if not ticks:
        return []
    largest = max(abs(t) for t in ticks)
    step = abs(ticks[1] - ticks[0]) if len(ticks) > 1 else largest or 1.0
    if largest >= 1e5 or (0 < step < 1e-4):
        return [number(t, 3) if t else "0" for t in ticks]
    decimals = max(0, min(5, -math.floor(math.log10(step) + 1e-9))) if step > 0 else 2
    return [f"{t:.{decimals}f}" if abs(t) > step / 1e6 else f"{0:.{decimals}f}" for t in ticks]


def short_step(step: int) -> str:
    """A step as short as it is exact: 800, 12.5k, 3M."""
    for bound, suffix in ((10**9, "B"), (10**6, "M"), (10**4, "k")):
        if step >= bound:
            unit = max(bound // 10, 1000) if suffix == "k" else bound
            unit = 1000 if suffix == "k" else bound
            text = f"{step / unit:.3f}".rstrip("0").rstrip(".")
            return text + suffix if len(text) <= 6 else thousands(step)
    return str(step)


__all__ = ["Chart", "Series", "draw_canvas", "polylines"]
