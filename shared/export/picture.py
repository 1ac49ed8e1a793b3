"""The chart of a run as a picture file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared.charts.colours import CURVE_INKS
from shared.charts.figure import Curve, Figure, RawPoints, whole_window
from shared.charts.marks import Mark, happening, in_drawing_order, mark, without_beaten
from shared.charts.phases import phase_bands
from shared.charts.smoothing import MovingAverage, is_long_enough
from shared.errors import UserError
from shared.json_text import is_number
from shared.library.labels import read_labels
from shared.output_file import check_output, write_output
from shared.run.directory import RunDirectory
from shared.run.event_text import event_text
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Series
from shared.run.record_lines import parse_lines, read_records
from shared.run.records import RECORD_KEYS, RunState
from shared.run.tail import Tailer
from shared.text import nearest, one_line

LOSSES = ("loss", "val_loss")
#: Of reinforcement learning, whose loss stays around 0.
REWARDS = ("reward_mean", "val_reward")
_READ = 4 << 20
_RECORD = frozenset({"step", "attempt", "nonfinite"})
_MAX_EVENTS = 10_000
_LARGEST_STEP = 1e15


def export_svg(figure: Figure, path: Path, *, force: bool = False) -> int:
    """Write `figure` as SVG; returns the bytes. See `write_output` for `path`."""
    from shared.charts.svg import draw_svg

    return _export(draw_svg, figure, path, force=force)


def export_png(figure: Figure, path: Path, *, force: bool = False) -> int:
    """Write `figure` as PNG; returns the bytes. See `write_output` for `path`."""
    from shared.charts.png import draw_png

    return _export(draw_png, figure, path, force=force)


def _export(draw: Callable[[Figure], bytes], figure: Figure, path: Path, *, force: bool) -> int:
    check_output(path, force=force)
    return write_output(path, [draw(figure)], force=force)


def runs_figure(
    runs: Sequence[RunDirectory],
    keys: Sequence[str] | None = None,
    *,
    smooth: float = 0.0,
    log: bool | None = None,
) -> Figure:
    """The series `keys` of several runs in one chart: by default the loss or the reward of each.

    `log=None` chooses the scale by the values. Raises UserError if there is nothing to draw.
    """
    if len(runs) == 1:
        return replace(run_figure(runs[0], keys, smooth=smooth), log_y=log)
    curves: list[Curve] = []
    shown: dict[str, None] = {}
    for run in runs:
        found = _series(run, keys)
        for series in found if keys else found[:1]:
            ink = CURVE_INKS[len(curves) % len(CURVE_INKS)]
            one = keys is None or len(keys) == 1
            label = _name(run) if one else f"{_name(run)} {series.key}"
            shown.setdefault(series.key)
            curves.append(replace(_curve(series, ink, smooth), label=label))
    title = ", ".join(shown)
    return Figure(
        curves,
        whole_window(curves),
        title=f"{title} of {len(runs)} runs",
        log_y=log,
        whole=True,
        smoothing=smooth,
    )


def run_figure(
    run: RunDirectory, keys: Sequence[str] | None = None, *, smooth: float = 0.0
) -> Figure:
    """The series `keys` of a run, by default the losses or rewards, over all steps.

    `smooth` is the weight of a moving average over each curve that is long enough, 0 for none.
    Raises UserError if there is nothing to draw.
    """
    found = _series(run, keys)
    inks = ("train", "val") if keys is None and len(found) > 1 else CURVE_INKS
    curves = [_curve(s, inks[i % len(inks)], smooth) for i, s in enumerate(found)]
    state = run.read_state() or RunState()
    return Figure(
        curves,
        whole_window(curves),
        title=_name(run),
        y_name=found[0].key if keys is None or len(found) == 1 else "",
        log_y=None,
        whole=True,
        smoothing=smooth,
        bands=phase_bands(state.phase_transitions),
        marks=_marks(run),
    )


def _name(run: RunDirectory) -> str:
    state = run.read_state() or RunState()
    return read_labels(run).name or one_line(state.run_name or run.run_id)


def _curve(series: Series, ink: str, smooth: float) -> Curve:
    average = None
    if is_long_enough(len(series), smooth):
        average = MovingAverage(smooth).extend(series.values)
    return Curve(series.key, ink, RawPoints(series), smooth=average)


def _marks(run: RunDirectory) -> list[Mark]:
    """The newest events that have a sign."""
    found = []
    for record in read_records(run.events_path, limit=_MAX_EVENTS):
        step: Any = record.get("step")
        if is_number(step) and 0 <= step <= _LARGEST_STEP:
            kind = one_line(record.get("event", ""), 40)
            found.append(happening(kind, int(step), event_text(record)))
    standing = without_beaten(one for one in found if one is not None)
    return [mark(one.step, one) for one in in_drawing_order(standing)]


def _series(run: RunDirectory, keys: Sequence[str] | None) -> list[Series]:
    """The series wanted; by default those of the rewards that exist, or of the losses."""
    table, known = _read(run, set(keys or (*LOSSES, *REWARDS)))
    if not known:
        raise UserError(f"Run {one_line(run.run_id)} has no metrics yet.")
    if keys is None:
        rewarded = len(table.series(REWARDS[0]))
        keys = [key for key in (REWARDS if rewarded else LOSSES) if len(table.series(key))]
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
    """The wanted series, read in pieces without the others; and the names of all."""
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
