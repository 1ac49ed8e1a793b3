"""What the list and the table of runs show of a run that another tool has written."""

from __future__ import annotations

import dataclasses

import numpy as np

from monitor.data.main_metric import beside, is_cost, main_key
from monitor.data.outline import Extents, Outline
from monitor.data.views import RunView
from shared.foreign.interface import Reader
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Series
from shared.text import one_line

_SPARK = 40  # values of a sparkline
_MOST_CONFIG = 1_000  # settings


def told_by(view: RunView, reader: Reader, extents: Extents) -> RunView:
    """`view` with what its files tell."""
    facts, table = reader.facts, reader.table
    name = one_line(facts.name, 120) or view.name
    status = facts.status or view.status
    keys = table.keys()
    main = main_key(keys)
    losses = _standing(table, main)
    evaluations = [_standing(table, key) for key in beside(main, keys)]
    evaluated = next((one for one in evaluations if len(one)), None)
    judged = evaluated or losses
    best = _least(judged) if is_cost(judged.key) else None
    return dataclasses.replace(
        view,
        name=name,
        status=status,
        reason="" if status == "running" or facts.status else view.reason,
        step=max(0, table.facts.front),
        loss=_last(losses),
        val_loss=None if evaluated is None else _last(evaluated),
        best_loss=None if best is None else best[1],
        best_step=None if best is None else best[0],
        best_metric="" if best is None else one_line(judged.key, 60),
        host=one_line(facts.host, 80),
        tags=tuple(one_line(tag, 40) for tag in facts.tags),
        started_at=facts.started_at,
        ended_at=facts.ended_at,
        alarm=one_line(facts.problem, 500),
        sparkline=tuple(losses.values[:: max(1, -(-len(losses) // _SPARK))].tolist()),
        outline=_outline(view.outline, reader, extents),
    )


def _outline(before: Outline | None, reader: Reader, extents: Extents) -> Outline:
    """The same object where it tells the same."""
    settings = list(reader.facts.config.items())[:_MOST_CONFIG]
    config = {one_line(key, 120): one_line(text, 300) for key, text in settings}
    metrics = extents.of(reader.table)
    if before is not None and (config, metrics) == (before.config, before.metrics):
        return before
    return Outline(config, metrics, has_metrics=True)


def _standing(table: MetricsTable, key: str) -> Series:
    """A metric without a pass that was given up."""
    series, front = table.series(key), table.facts.given_up_after
    if front is None:
        return series
    end = int(np.searchsorted(series.steps, front, "right"))
    return Series(key, series.steps[:end], series.values[:end])


def _last(series: Series) -> float | None:
    return float(series.values[-1]) if len(series) else None


def _least(series: Series) -> tuple[int, float] | None:
    """The step and the value of the least finite one."""
    finite = np.flatnonzero(np.isfinite(series.values))
    if not len(finite):
        return None
    at = finite[np.argmin(series.values[finite])]
    return int(series.steps[at]), float(series.values[at])
