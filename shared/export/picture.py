"""The loss curve of a run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.charts.svg import Line, draw_svg
from shared.errors import UserError
from shared.hub.curve import draw_curve, draw_overlay
from shared.hub.source import Curve
from shared.json_text import is_number
from shared.library.labels import read_labels
from shared.output_file import check_output, write_output
from shared.run.directory import RunDirectory
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Series
from shared.run.record_lines import parse_lines
from shared.run.records import RECORD_KEYS, RunState
from shared.run.tail import Tailer
from shared.text import nearest, one_line

LOSSES = ("loss", "val_loss")
_READ = 4 << 20
_RECORD = frozenset({"step", "attempt", "nonfinite"})


def export_svg(
    run: RunDirectory, path: Path, keys: Sequence[str] | None = None, *, force: bool = False
) -> int:
    """Draw the series `keys`, the losses by default, over all steps; returns the bytes.

    Raises UserError when there is nothing to draw; see `write_output` for `path`.
    """
    check_output(path, force=force)
    drawn = draw_svg([Line(s.key, s) for s in _series(run, keys)], _title(run))
    return write_output(path, [drawn.encode()], force=force)


def export_png(
    run: RunDirectory, path: Path, keys: Sequence[str] | None = None, *, force: bool = False
) -> int:
    """As `export_svg`, without words; the losses as in the picture of the model card."""
    check_output(path, force=force)
    found = _series(run, keys)
    if not any(np.isfinite(series.values).any() for series in found):
        raise UserError(f"{one_line(found[0].key)} of {one_line(run.run_id)} has no finite value.")
    losses = [series.key for series in found] == list(LOSSES)
    drawn = draw_curve(Curve(*found)) if losses else draw_overlay(found)
    return write_output(path, [drawn], force=force)


def _title(run: RunDirectory) -> str:
    state = run.read_state() or RunState()
    return read_labels(run).name or one_line(state.run_name or run.run_id)


def _series(run: RunDirectory, keys: Sequence[str] | None) -> list[Series]:
    """The series wanted, those of the losses that there are by default."""
    table, known = _read(run, set(keys or LOSSES))
    if not known:
        raise UserError(f"Run {one_line(run.run_id)} has no metrics yet.")
    if keys is None:
        keys = [key for key in LOSSES if len(table.series(key))]
        if not keys:
            some = ", ".join(one_line(k, 40) for k in known[:20])
            raise UserError(
                f"Run {one_line(run.run_id)} has no loss to draw; name a metric with --keys: "
                f"it has {some}."
            )
    found = [table.series(key) for key in dict.fromkeys(keys)]
    for series in found:
        if not len(series):
            raise UserError(
                f"Run {one_line(run.run_id)} has no metric {one_line(series.key, 60)!r}"
                f"{one_line(nearest(series.key, known))}."
            )
    return found


def _read(run: RunDirectory, wanted: set[str]) -> tuple[MetricsTable, list[str]]:
    """Those series, read in pieces and without the many others; and the names of all."""
    table, known = MetricsTable(), dict[str, None]()
    keep = wanted | _RECORD
    tailer = Tailer(run.metrics_path)
    while True:
        chunk = tailer.read(_READ)
        records, _ = parse_lines(chunk.lines)
        for record in {tuple(record): record for record in records}.values():  # one of each shape
            known.update((k, None) for k, v in record.items() if is_number(v))
        table.add_records([{k: v for k, v in r.items() if k in keep} for r in records])
        if not chunk.more:
            known.update(dict.fromkeys(table.keys()))
            return table, [key for key in known if key not in RECORD_KEYS]
