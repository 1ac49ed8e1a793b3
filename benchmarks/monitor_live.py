"""How old a step is when it appears: from writing its line to its number on the terminal.

The real program on a 120x40 terminal watches a long run. Lines are appended at random moments,
like a trainer with about three steps a second. In a second pass there are no inotify events (as on
a network disk), and only polling finds the lines.

    python -m benchmarks.monitor_live [--quick]
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import orjson

from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.terminal import Terminal, p95
from shared.run_writer import RunWriter

LIVE_MS = 50
POLL = 0.5  # seconds, the default
POLLED_TIMES = 1.2  # of the poll interval
HISTORY, QUICK_HISTORY = 1_000_000, 50_000
EVENTS, QUICK_EVENTS = 120, 20


def record(step: int) -> dict[str, object]:
    """What a trainer logs of a step."""
    return {
        "loss": 1.5 + 8.0 / (1 + step * 0.001) + (step % 17) * 0.01,
        "gradient_norm": 0.5 + (step % 7) * 0.01,
        "step_time_ms": 48.25,
        "learning_rate": 3e-4,
        "tokens_total": step * 16384,
        "tokens_per_second": 341000.0,
    }


def latencies(history: int, events: int, *, hints: bool) -> list[float]:
    """Seconds from the line to the screen, for each of so many."""
    rhythm = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        with RunWriter(runs, name="live", max_steps=10**8) as writer:
            lines = (
                orjson.dumps({"step": step, "time": 1.79e9 + step, "attempt": 1, **record(step)})
                for step in range(1, history + 1)
            )
            writer.run.metrics_path.write_bytes(b"\n".join(lines) + b"\n")
            step = history
            with Terminal(runs, "--poll", str(POLL), deaf=not hints) as terminal:
                terminal.until(lambda text: f"{history:,}" in text and "reading" not in text)
                terminal.rest(3.0)
                found: list[float] = []
                while len(found) < events:
                    step += 1
                    shown = f"{step:,}"
                    began = time.perf_counter()
                    writer.log(step, **record(step))
                    terminal.until(lambda text, shown=shown: shown in text)  # type: ignore[misc]
                    found.append(time.perf_counter() - began)
                    terminal.rest(rhythm.uniform(0.15, 0.5))
    return found


def measure(*, quick: bool = False) -> Result:
    """With and without hints from the kernel."""
    history, events = (QUICK_HISTORY, QUICK_EVENTS) if quick else (HISTORY, EVENTS)
    rows: list[Row] = []
    worst: list[float] = []
    for hints, who in ((True, "with inotify"), (False, f"polling each {POLL:g} s")):
        found = latencies(history, events, hints=hints)
        rows += [
            Row(f"{who}: median of {len(found)}", 1e3 * statistics.median(found), "ms"),
            Row(f"{who}: p95", 1e3 * p95(found), "ms"),
            Row(f"{who}: most", 1e3 * max(found), "ms"),
        ]
        worst.append(1e3 * p95(found))
    limit = 1e3 * POLLED_TIMES * POLL
    return Result(
        rows,
        [
            Hold(
                f"appended line on the terminal: p95 ≤ {LIVE_MS} ms",
                f"{worst[0]:.0f} ms",
                worst[0] <= LIVE_MS,
            ),
            Hold(
                f"without inotify ≤ {POLLED_TIMES:g}x the poll interval",
                f"{worst[1]:.0f} ms",
                worst[1] <= limit,
            ),
        ],
        [f"The run has {history:,} steps of history."],
    )


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
