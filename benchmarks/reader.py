"""Three million lines of metrics until every series is in memory, beside a bare JSON parser.

The peer reads the same file with `orjson.loads`, a line at a time, and keeps nothing: the least
that any reader can do. Ours makes a series of every number, once in one process (`MetricsReader`)
and once as the monitor does it (`RunFollower`): of a file this long, another process reads the
second half. In turns, the best round of each; the file is in the page cache.

    python -m benchmarks reader [--quick]
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.monitor_start import LINE, bare_orjson, write_metrics
from benchmarks.record import Hold, Result, Row, run_alone
from monitor.__main__ import GARBAGE
from monitor.data.follower import RunFollower
from shared.run.directory import RunDirectory
from shared.run.metrics_log import MetricsReader

LINES, QUICK_LINES = 3_000_000, 300_000
ROUNDS = 3
MOST = 2.0  # times the bare parser's seconds


def alone(run: RunDirectory) -> int:
    """Every series, in this process, in slices of 1 MiB."""
    reader = MetricsReader(run.metrics_path)
    while reader.poll():
        pass
    return reader.table.records


def as_monitor(run: RunDirectory) -> int:
    """Every series, as the monitor reads the run that is selected."""
    follower = RunFollower(run)
    follower.poll()
    while follower.more:
        follower.poll_metrics()
    return len(follower.detail().loss)


READERS: dict[str, Callable[[RunDirectory], int]] = {
    "bare orjson": lambda run: bare_orjson(run.metrics_path),
    "MetricsReader, one process": alone,
    "RunFollower, with its helper": as_monitor,
}


def measure(*, quick: bool = False) -> Result:
    """Seconds of each, best of the rounds."""
    gc.set_threshold(GARBAGE)  # as in the monitor
    best = dict.fromkeys(READERS, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / "run")
        run.path.mkdir()
        lines = write_metrics(run.metrics_path, (QUICK_LINES if quick else LINES) * LINE)
        megabytes = run.metrics_path.stat().st_size / 1e6
        for _ in range(ROUNDS):
            for name, read in READERS.items():
                began = time.perf_counter()
                if read(run) != lines:
                    raise RuntimeError(f"{name} did not read {lines} lines")
                best[name] = min(best[name], time.perf_counter() - began)
    peer, *ours = best
    what = f"{lines / 1e6:.3g}M lines, {megabytes:,.0f} MB"
    rows = [Row(f"{what}: {peer}", best[peer], "s")]
    rows += [
        Row(f"{what}: {name}", best[name], "s", peer, best[name] / best[peer]) for name in ours
    ]
    ratio = best[ours[-1]] / best[peer]
    hold = Hold(
        f"the monitor's reading ≤ {MOST:g}x the bare parser", f"{ratio:.2f}x", ratio <= MOST
    )
    return Result(rows, [hold])


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
