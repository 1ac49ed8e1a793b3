"""Exports what the screen shows: a chart, the metrics, the page of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monitor.data.views import RunView
from monitor.plots.scene import Scene
from shared.charts.figure import Figure
from shared.errors import UserError
from shared.export.csv import export_csv
from shared.export.page import export_text
from shared.export.picture import export_png, export_svg
from shared.output_file import check_output
from shared.run.directory import RunDirectory, slug
from shared.run.sketch import sketched_size
from shared.text import format_bytes, one_line, plural

SVG, PNG, CSV, TEXT, TABLE = "svg", "png", "csv", "text", "table"
#: What can be exported, in the order of the dialog: kind, description, file extension.
KINDS: Mapping[str, tuple[str, str]] = {
    SVG: ("the chart as SVG", ".svg"),
    PNG: ("the chart as PNG", ".png"),
    CSV: ("all metrics as CSV", ".csv"),
    TEXT: ("the run's page as text", ".txt"),
    TABLE: ("the table of runs as CSV", ".csv"),
}
OF_A_RUN = (SVG, PNG, CSV, TEXT)
_MAX_SLUG = 40
_LOADING = "The metrics are still being read. Export them once they are loaded."


@dataclass(frozen=True, eq=False)
class Chart:
    """The chart in focus, as the screen shows it.

    `loading` says that more of the metrics is still being read.
    """

    figure: Figure
    loading: bool = False


@dataclass(frozen=True)
class ExportChoice:
    """A kind of `KINDS` and a path; `force` replaces an existing file."""

    kind: str
    path: Path
    force: bool = False


def chart_of(scene: Scene, key: str) -> Chart:
    """The chart of `key` as `scene` shows it."""
    loading = any(s.detail.loading is not None or s.detail.approximate for s in scene.shown)
    return Chart(scene.figure(key), loading)


def propose(view: RunView, kind: str, chart: Chart | None = None) -> str:
    """A file name for it, without anything special to a path, a shell or a terminal."""
    parts = [_slug(view.label) or _slug(view.path.name) or "run"]
    if kind in (SVG, PNG) and chart is not None and chart.figure.curves:
        parts.append(_slug(chart.figure.curves[0].points.series.key) or "chart")
    return "-".join(parts) + KINDS[kind][1]


def _slug(text: str) -> str:
    try:
        return slug(one_line(text, 200))[:_MAX_SLUG].strip("-.")
    except UserError:
        return ""


def why_not_here(choice: ExportChoice) -> str:
    """Why the file cannot be written there; empty if it can.

    An existing file is no reason: see `is_taken`.
    """
    try:
        check_output(choice.path, force=True)
    except UserError as error:
        return str(error)
    return ""


def is_taken(choice: ExportChoice) -> bool:
    """Whether the file exists."""
    return choice.path.is_file()


def export(view: RunView, choice: ExportChoice, chart: Chart | None = None) -> str:
    """Write the file; returns a message. Raises UserError and then leaves an old file unchanged."""
    run = RunDirectory(view.path)
    if choice.kind in (CSV, TEXT) and sketched_size(run.metrics_path) is not None:
        raise UserError(_LOADING)
    path, force = choice.path, choice.force
    what = ""
    try:
        if choice.kind == CSV:
            table = export_csv(run, path, force=force)
            columns = plural(1 + len(table.keys), "column")
            size, what = table.bytes, f"{plural(table.rows, 'row')}, {columns}, "
        elif choice.kind == TEXT:
            size = export_text(run, path, force=force)
        else:
            write = export_svg if choice.kind == SVG else export_png
            size = write(_drawable(view, chart), path, force=force)
    except UserError as error:
        message = str(error).replace("--force replaces it", "export it again to replace it")
        raise type(error)(message) from error
    return f"Wrote {one_line(path)} ({what}{format_bytes(size)})."


def _drawable(view: RunView, chart: Chart | None) -> Figure:
    if chart is None or not chart.figure.curves:
        raise UserError(f"{view.label} has no chart to export yet.")
    if chart.loading:
        raise UserError(_LOADING)
    return chart.figure
