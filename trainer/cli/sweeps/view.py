"""How the results of a group are shown: a table, JSON, CSV."""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import typer

from shared.text import one_line, plural
from trainer.cli.output import print_table, shorten

if TYPE_CHECKING:
    from shared.library.groups import Ranked, Result
    from trainer.cli.runs.status import Row
    from trainer.sweep.results import Results

BEST = "★"
_LEAST_WIDTH, _LEAST_NOTE = 60, 16
_HEADINGS = {"val_loss": "val loss", "reward": "best reward"}
_CELL = 24  # characters of a value or a heading

Rows = Mapping[str, "Row"]


def counts(statuses: Iterable[str]) -> dict[str, int]:
    """How many runs have each status, in order of appearance."""
    return dict(Counter(statuses))


def told(counted: Mapping[str, int]) -> str:
    """`3 completed, 1 queued`."""
    return ", ".join(f"{count:,} {one_line(status, 20)}" for status, count in counted.items())


def print_results(results: Results, rows: Rows) -> None:
    """Print a line per run, those of the best setting first, and which it is."""
    what = _HEADINGS.get(results.metric, "train loss")
    group, statuses = one_line(results.group), [row.health.status for row in rows.values()]
    typer.echo(f"group {group}: {plural(len(rows), 'run')}, {told(counts(statuses))}")
    measured = any(result.loss is not None for one in results.settings for result in one.results)
    if measured and results.metric not in _HEADINGS:
        typer.echo("no run has a validation loss yet; training losses are compared")
    heading = ["", *results.titles, what, "mean", "spread", "status", "steps", "ETA", "note"]
    table = [[shorten(one_line(cell), _CELL) for cell in heading]]
    for ranked in results.settings:
        for index, result in enumerate(ranked.results):
            summarized = index == 0 and results.has_seeds
            table.append(_cells(results, ranked, result, rows[result.run_id], summarized))
    _fit(table, max(_LEAST_WIDTH, shutil.get_terminal_size((100, 24)).columns))
    print_table(table, numbers=range(1, len(results.keys) + 4), drop_empty=True)
    best = next((ranked for ranked in results.settings if ranked.best), None)
    if best is not None:
        typer.echo(_best(results, best))
    elif len(results.settings) == 1 and results.settings[0].summary.count:
        typer.echo(_mean(results.settings[0]))


def _cells(
    results: Results, ranked: Ranked, result: Result, row: Row, summarized: bool
) -> list[str]:
    cells, summary = row.cells(), ranked.summary
    usual = row.health.status in ("completed", "queued") and not row.health.alarm
    return [
        BEST if ranked.best else "",
        *map(_value, results.swept(result.run_id).values()),
        _loss(result.loss),
        _loss(summary.mean) if summarized else "",
        f"±{_loss(summary.spread)}" if summarized and summary.spread is not None else "",
        cells["status"],
        cells["steps"],
        cells["ETA"] if row.health.alive else "",
        "" if usual else one_line(row.note, 300),
    ]


def _best(results: Results, best: Ranked) -> str:
    """Which setting is the best, and how sure that is."""
    first = results.swept(best.results[0].run_id)
    titles = zip(results.titles, first.items(), strict=True)
    words = [f"{title}={_value(value)}" for title, (key, value) in titles if key != results.seed]
    ended = all(ranked.is_complete for ranked in results.settings)
    text = f"{BEST} best{'' if ended else ' so far'}: {', '.join(words)}"
    if results.has_seeds:
        text += f", {_mean(best)}"
    return one_line(text, 500)


def _mean(ranked: Ranked) -> str:
    summary = ranked.summary
    spread = "" if summary.spread is None else f" ± {_loss(summary.spread)}"
    return f"mean {_loss(summary.mean)}{spread} over {plural(summary.count, 'seed')}"


def _fit(table: list[list[str]], width: int) -> None:
    """Shorten the notes, so that the table fits on a terminal."""
    columns = list(zip(*table, strict=True))
    used = sum(2 + max(map(len, column)) for column in columns[:-1] if any(column[1:]))
    for row in table:
        row[-1] = shorten(row[-1], max(_LEAST_NOTE, width - used))


def _value(value: object) -> str:
    from trainer.sweep.axes import value_text

    return "-" if value is None else shorten(value_text(value), _CELL)


def _loss(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if math.isfinite(value) else f"{value}"


def record_of(results: Results, rows: Rows) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "group": results.group,
        "metric": results.metric,
        "keys": list(results.keys),
        "settings": [
            {
                "best": ranked.best,
                "mean": ranked.summary.mean,
                "spread": ranked.summary.spread,
                "completed": ranked.summary.count,
                "runs": [
                    _record(results, result, rows[result.run_id]) for result in ranked.results
                ],
            }
            for ranked in results.settings
        ],
    }


def _record(results: Results, result: Result, row: Row) -> dict[str, Any]:
    return {
        "run_id": result.run_id,
        "swept": results.swept(result.run_id),
        results.metric: result.loss,
        "status": row.health.status,
        "step": row.state.current_step,
        "max_steps": row.state.max_steps,
        "eta_seconds": row.state.eta_seconds if row.health.alive else None,
        "note": row.note,
    }


def print_csv(results: Results, rows: Rows) -> None:
    """Print a line per run; `rank` counts settings."""
    from shared.export.cells import safe_cell
    from trainer.sweep.axes import value_text

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = (results.metric, "mean", "spread")
    head = ("rank", "best", "run_id", *results.keys, *numbers, "status", "step", "max_steps")
    writer.writerow([safe_cell(one_line(cell)) for cell in head])
    for place, ranked in enumerate(results.settings, 1):
        for result in ranked.results:
            row, swept = rows[result.run_id], results.swept(result.run_id)
            losses = (result.loss, ranked.summary.mean, ranked.summary.spread)
            cells = [
                str(place),
                "best" if ranked.best else "",
                result.run_id,
                *("" if value is None else value_text(value) for value in swept.values()),
                *("" if loss is None else repr(loss) for loss in losses),
                row.health.status,
                str(row.state.current_step),
                str(row.state.max_steps or ""),
            ]
            writer.writerow([safe_cell(one_line(cell, 1000)) for cell in cells])
    typer.echo(text.getvalue(), nl=False)
