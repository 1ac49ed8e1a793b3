"""Lines per second of `MetricsReader` on a million lines, against a bare orjson loop."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from shared.run.metrics_log import MetricsReader

LINES = 1_000_000


def write_lines(path: Path, lines: int) -> None:
    """A metrics file as the trainer writes it: about 200 bytes a line."""
    with path.open("wb") as file:
        for step in range(lines):
            record = {
                "step": step,
                "time": 1.79e9 + step * 0.05,
                "loss": 1.5 + 8.0 / (1 + step * 0.001),
                "gradient_norm": 0.5 + (step % 7) * 0.01,
                "phase": "full",
                "was_predicted": False,
                "step_time_ms": 48.25,
                "learning_rate": 3e-4,
                "tokens_total": step * 16384,
                "tokens_per_second": 341000.0,
                "attempt": 1,
            }
            file.write(orjson.dumps(record) + b"\n")


def bare_orjson(path: Path) -> int:
    """The least any reader can do: parse each line and keep nothing."""
    count = 0
    with path.open("rb") as file:
        for line in file:
            orjson.loads(line)
            count += 1
    return count


def metrics_reader(path: Path) -> int:
    """What the monitor does: every series in columns, in slices of 1 MiB."""
    reader = MetricsReader(path)
    while reader.poll():
        pass
    return reader.table.records


def main(lines: int = LINES, rounds: int = 3) -> list[dict[str, object]]:
    """Best of `rounds`, the two taking turns so that both see the same machine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "metrics.jsonl"
        write_lines(path, lines)
        megabytes = path.stat().st_size / 1e6
        best: dict[Callable[[Path], int], float] = {}
        for _ in range(rounds):
            for read in (metrics_reader, bare_orjson):
                began = time.perf_counter()
                if read(path) != lines:
                    raise RuntimeError(f"{read.__name__} did not read {lines} lines")
                seconds = time.perf_counter() - began
                best[read] = min(seconds, best.get(read, seconds))
    ours, bare = best[metrics_reader], best[bare_orjson]
    return [
        {"what": "MetricsReader", "value": lines / ours, "unit": "lines/s", "peer": lines / bare},
        {
            "what": "MetricsReader",
            "value": megabytes / ours,
            "unit": "MB/s",
            "peer": megabytes / bare,
        },
        {"what": "MetricsReader / bare orjson", "value": bare / ours, "unit": "x", "peer": 1.0},
    ]


def show(rows: list[dict[str, object]]) -> None:
    """The rows as a small table."""
    for row in rows:
        print(f"{row['what']:<32}{row['value']:>14,.2f} {row['unit']:<8} peer {row['peer']:,.2f}")


if __name__ == "__main__":
    show(main())
