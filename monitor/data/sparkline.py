"""A few losses of a run, for a curve one line high."""

from __future__ import annotations

from pathlib import Path

from monitor.data.main_metric import main_key
from monitor.data.skim import is_plain, skim
from monitor.data.tails import tail, whole_size
from shared.run.metrics_log import MetricsTable
from shared.run.record_lines import parse_line

SPARKS = 24  # values of a sparkline
_WHOLE = 256 << 10  # bytes of metrics up to which a sparkline is made of all lines


def sparkline(path: Path) -> tuple[float, ...]:
    """A few losses, evenly spaced over the whole of the metrics; a bounded part of it is read."""
    if whole_size(path) > _WHOLE or not is_plain(path):
        series = skim(path, 2 * SPARKS).series
    else:
        lines = tail(path, _WHOLE).replace(b"\r", b"\n").split(b"\n")[:-1]
        table = MetricsTable()
        # Every other one may be of another kind, with no loss in it.
        table.add_records(r for i in _spread(len(lines), 2 * SPARKS) if (r := parse_line(lines[i])))
        series = {key: table.series(key) for key in table.keys()}  # noqa: SIM118  not a dict
    losses = series.get(main_key(series))
    if losses is None:
        return ()
    return tuple(float(losses.values[i]) for i in _spread(len(losses), SPARKS))


def _spread(count: int, most: int) -> list[int]:
    """At most so many of `count` indices, evenly spaced, both ends included."""
    chosen = min(count, most)
    return [i * (count - 1) // max(1, chosen - 1) for i in range(chosen)]
