"""Taking along what the screen shows: a chart, the numbers behind it, a run's page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from monitor.data.views import RunView
from monitor.plots.marks import in_drawing_order
from monitor.plots.scene import Scene
from shared.charts.svg import Axis, Band, Line, Mark, draw_svg
from shared.errors import UserError
from shared.export.csv import export_csv
from shared.export.page import export_text
from shared.output_file import check_output, write_output
from shared.run.directory import RunDirectory, slug
from shared.run.metrics_rows import Series
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


@dataclass(frozen=True, eq=False)
class Figure:
    """The chart in focus, as it is looked at. `window` is the part of its axis, None for all.

    `loading` says that more of the metrics is still being read.
    """

    title: str
    lines: tuple[Line, ...] = ()
    window: tuple[float, float] | None = None
    logarithmic: bool | None = None
    log_x: bool = False
    axis: Axis = "step"
    bands: tuple[Band, ...] = ()
    marks: tuple[Mark, ...] = ()
    loading: bool = False


@dataclass(frozen=True)
class ExportChoice:
    """What a person wants: a kind of `KINDS`, and where; `force` replaces what is there."""

    kind: str
    path: Path
    force: bool = False


def figure_of(scene: Scene, key: str) -> Figure:
    """The chart of `key` as `scene` shows it."""
    lines = []
    for curve in scene.curves(key):
        series = curve.pyramid.series
        name = one_line(key, 60)
        label = f"{curve.label} {name}" if scene.is_overlay else series.key
        lines.append(Line(one_line(label, 120), series, curve.x, curve.smooth))
    window = scene.window
    marks = [
        Mark(x, h.sign.sign, f"{h.sign.word} at step {h.step:,}: {h.text}")
        for h in in_drawing_order(scene.happenings())
        if (x := scene.x_of(h.step)) is not None
    ]
    return Figure(
        title=one_line(key, 40) if scene.is_overlay else scene.shown[0].view.label,
        lines=tuple(lines),
        window=(window.first, window.last) if scene.state.is_zoomed else None,
        logarithmic=key in scene.state.log_y,
        log_x=scene.state.log_x,
        axis=scene.axis,
        bands=tuple(Band(x, phase.name) for x, phase in scene.phases()),
        marks=tuple(marks),
        loading=any(s.detail.loading is not None or s.detail.approximate for s in scene.shown),
    )


def propose(view: RunView, kind: str, figure: Figure | None = None) -> str:
    """A file name for it: no path, nothing that a shell or a terminal would obey."""
    parts = [_slug(view.label) or _slug(view.path.name) or "run"]
    if kind in (SVG, PNG) and figure is not None and figure.lines:
        parts.append(_slug(figure.lines[0].series.key) or "chart")
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
    if figure is None or not figure.lines:
        raise UserError(f"{view.label} has no chart to export yet.")
    if figure.loading:
        raise UserError("The metrics are still being read; export the chart when they are there.")
    return figure


def _export_chart(figure: Figure, choice: ExportChoice) -> int:
    check_output(choice.path, force=choice.force)
    if choice.kind == SVG:
        drawn = draw_svg(
            figure.lines,
            figure.title,
            window=figure.window,
            logarithmic=figure.logarithmic,
            log_x=figure.log_x,
            axis=figure.axis,
            bands=figure.bands,
            marks=figure.marks,
        )
        return write_output(choice.path, [drawn.encode()], force=choice.force)
    return write_output(choice.path, [_draw_png(figure)], force=choice.force)


def _draw_png(figure: Figure) -> bytes:
    """The values of every curve, in the colours of the SVG, the first one in blue."""
    from shared.hub.curve import draw_curve, draw_overlay
    from shared.hub.source import Curve

    shown = [line.between(figure.window) for line in figure.lines]
    every = [Series(x.label, x.places.astype(np.int64), x.series.values) for x in shown]
    if not any(np.isfinite(series.values).any() for series in every):
        raise UserError(f"{figure.lines[0].label} has no finite value in this part of the chart.")
    if [series.key for series in every] == ["loss", "val_loss"]:
        return draw_curve(Curve(*every))
    return draw_overlay(every)
