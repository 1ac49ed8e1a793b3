"""Taking along what the screen shows: a chart, the numbers behind it, a run's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.data.views import RunDetail, RunView
from shared.chart_svg import Line, draw_svg
from shared.errors import UserError
from shared.metrics_log import Series
from shared.output_file import check_output, write_output
from shared.run_csv import export_csv
from shared.run_directory import RunDirectory, slug
from shared.run_page import export_text
from shared.text import format_bytes, one_line

SVG, PNG, CSV, TEXT = "svg", "png", "csv", "text"
#: What can be taken along, in the order in which it is offered: kind, what it is, the file's end.
KINDS: Mapping[str, tuple[str, str]] = {
    SVG: ("the chart as SVG", ".svg"),
    PNG: ("the chart as PNG", ".png"),
    CSV: ("all metrics as CSV", ".csv"),
    TEXT: ("the run's page as text", ".txt"),
}
_MAX_SLUG = 40
_PNG_CURVES = 2


@dataclass(frozen=True, eq=False)
class Figure:
    """The chart in focus. `labels` and `series` belong together; `steps` is its window.

    `loading` says that more of the metrics is still being read.
    """

    title: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    steps: tuple[int, int] | None = None
    logarithmic: bool | None = None
    loading: bool = False


@dataclass(frozen=True)
class ExportChoice:
    """What a person wants: a kind of `KINDS`, and where; `force` replaces what is there."""

    kind: str
    path: Path
    force: bool = False


def figure_of(
    shown: Sequence[tuple[RunView, RunDetail]],
    keys: Sequence[str],
    steps: tuple[int, int] | None = None,
    *,
    logarithmic: bool | None = None,
) -> Figure:
    """The chart of `keys` over one run or, overlaid, several."""
    labels: list[str] = []
    series: list[Series] = []
    for view, detail in shown:
        for key in keys:
            found = detail.series.get(key)
            if found is None:
                found = next((s for s in (detail.loss, detail.val_loss) if s.key == key), None)
            if found is not None and len(found):
                name = one_line(key, 60)
                labels.append(name if len(shown) == 1 else f"{one_line(view.label, 60)} {name}")
                series.append(found)
    title = shown[0][0].label if len(shown) == 1 else " · ".join(one_line(k, 40) for k in keys)
    loading = any(d.loading is not None or d.approximate for _, d in shown)
    return Figure(title, tuple(labels), tuple(series), steps, logarithmic, loading)


def propose(view: RunView, kind: str, figure: Figure | None = None) -> str:
    """A file name for it: no path, nothing that a shell or a terminal would obey."""
    parts = [_slug(view.label) or _slug(view.path.name) or "run"]
    if kind in (SVG, PNG) and figure is not None and figure.series:
        parts.append(_slug(figure.series[0].key) or "chart")
    return "-".join(parts) + KINDS[kind][1]


def _slug(text: str) -> str:
    try:
        return slug(one_line(text, 200))[:_MAX_SLUG].strip("-.")
    except UserError:
        return ""


def why_not_here(choice: ExportChoice) -> str:
    """Why the file cannot be written there; empty if it can.

    That something is there already is no such reason: see `is_taken`.
    """
    try:
        check_output(choice.path, force=True)
    except UserError as error:
        return str(error)
    return ""


def is_taken(choice: ExportChoice) -> bool:
    """Whether a file of that name is there."""
    return choice.path.is_file()


def export(view: RunView, choice: ExportChoice, figure: Figure | None = None) -> str:
    """Write what is wanted; says where it is. Raises UserError, with the old file as it was."""
    run = RunDirectory(view.path)
    path, force = choice.path, choice.force
    what = ""
    try:
        if choice.kind == CSV:
            table = export_csv(run, path, force=force)
            size, what = table.bytes, f"{table.rows:,} rows, {len(table.keys)} metrics, "
        elif choice.kind == TEXT:
            size = export_text(run, path, force=force)
        else:
            size = _export_chart(_drawable(view, figure), choice)
    except UserError as error:
        told = str(error).replace("--force replaces it", "export it again to replace it")
        raise type(error)(told) from error
    return f"Wrote {one_line(path)} ({what}{format_bytes(size)})."


def _drawable(view: RunView, figure: Figure | None) -> Figure:
    if figure is None or not figure.series:
        raise UserError(f"{view.label} has no chart to export yet.")
    if figure.loading:
        raise UserError("The metrics are still being read; export the chart when they are there.")
    return figure


def _export_chart(figure: Figure, choice: ExportChoice) -> int:
    check_output(choice.path, force=choice.force)
    if choice.kind == SVG:
        lines = [Line(*pair) for pair in zip(figure.labels, figure.series, strict=True)]
        drawn = draw_svg(lines, figure.title, steps=figure.steps, logarithmic=figure.logarithmic)
        return write_output(choice.path, [drawn.encode()], force=choice.force)
    return write_output(choice.path, [_draw_png(figure)], force=choice.force)


def _draw_png(figure: Figure) -> bytes:
    """The picture of the model card: one or two curves, the first in blue."""
    from shared.hub.curve import draw_curve
    from shared.hub.source import Curve

    if len(figure.series) > _PNG_CURVES:
        raise UserError(
            f"A PNG shows one or two curves, not {len(figure.series)}; an SVG shows any number."
        )
    first, *more = [_between(series, figure.steps) for series in figure.series]
    curve = Curve(first, more[0] if more else Series("", first.steps[:0], first.values[:0]))
    if not curve:
        raise UserError(f"{figure.labels[0]} has no finite value in this part of the chart.")
    return draw_curve(curve)


def _between(series: Series, steps: tuple[int, int] | None) -> Series:
    if steps is None:
        return series
    first, last = np.searchsorted(series.steps, (steps[0], steps[1] + 1))
    return Series(series.key, series.steps[first:last], series.values[first:last])
