"""From starting the monitor to the curve of a 1 GB metrics file, approximate and exact.

The real program on a 120x40 terminal, from `exec` to the bytes on the terminal. First the file is
skimmed and the whole range is drawn. Then it is read completely, half of it by a helper process;
the curve is exact once the chart no longer says that it is reading. In a second start, `j` and `k`
move the selection back and forth during the read, timed from the key to the other run's name in the
heading. The peer of the exact curve is the bare JSON parser over the same lines: `orjson`, a line
at a time, nothing kept.

    python -m benchmarks.monitor_start [--quick]
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import orjson

from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.terminal import Terminal, has_curve, p95
from monitor.data.follower import RunFollower
from shared.run.directory import RunDirectory

APPROXIMATE_MS, EXACT_SECONDS, MEMORY_MB, KEY_MS = 400, 5.0, 300, 50
MOST = 2.0  # times the bare parser's seconds, until the curve is exact
LINE = 313  # bytes of a line, nearly
SIZE, QUICK_SIZE = 1_000_000_000, 100_000_000
STARTS = 3
_CHUNK = 20_000  # lines made at a time
BUSY = ("reading", "approx")  # what a chart says while it is not exact


def write_metrics(path: Path, size: int) -> int:
    """A metrics file of about `size` bytes as a long training leaves it; returns its lines.

    Numbers have the digits that a trainer's have: losses are 32-bit floats, times 64-bit ones.
    """
    noise = np.random.default_rng(0)
    lines = 0
    with path.open("wb") as file:
        while file.tell() < size:
            losses = np.float32(1.5) + noise.normal(0, 0.1, _CHUNK).astype(np.float32)
            norms = noise.gamma(4, 0.2, _CHUNK).astype(np.float32)
            times = 48 + noise.gamma(2, 0.7, _CHUNK)
            steps = np.arange(lines + 1, lines + _CHUNK + 1)
            losses += (8 / (1 + steps * 0.001)).astype(np.float32)
            rates = 1.5e-4 * (1 + np.cos(steps / 4e6))
            for step, loss, norm, time, rate in zip(
                *(x.tolist() for x in (steps, losses, norms, times, rates)), strict=True
            ):
                record = {
                    "step": step,
                    "time": 1.79e9 + step * 0.05 + time / 1e4,
                    "loss": loss,
                    "gradient_norm": norm,
                    "phase": "full",
                    "was_predicted": False,
                    "prediction_error": None,
                    "step_time_ms": time,
                    "learning_rate": rate,
                    "tokens_total": step * 16384,
                    "tokens_per_second": 16384e3 / time,
                    "attempt": 1,
                }
                file.write(orjson.dumps(record) + b"\n")
            lines += _CHUNK
    return lines


def write_runs(folder: Path, size: int) -> int:
    """A run `big` with that much of metrics, and a small one; returns the lines of the big one."""
    lines = 0
    for name, started, count in (("big", 2e9, size), ("little", 1e9, 1000)):
        run = folder / name
        (run / "checkpoints").mkdir(parents=True)
        lines = max(lines, write_metrics(run / "metrics.jsonl", count))
        state = {
            "run_id": name,
            "run_name": name,
            "status": "completed",
            "current_step": lines,
            "max_steps": lines,
            "started_at": started,
        }
        (run / "run_state.json").write_bytes(orjson.dumps(state))
    return lines


def is_exact(text: str) -> bool:
    """Whether a curve is drawn, and of everything."""
    return has_curve(text) and not any(word in text for word in BUSY)


def start(runs: Path) -> tuple[float, float, float]:
    """Seconds to the approximate and to the exact curve, and the most memory in megabytes."""
    with Terminal(runs) as terminal:
        approximate = terminal.until(has_curve)
        with terminal.watched_memory() as most:
            exact = terminal.steadily(is_exact)
        return approximate, exact, most[-1]


def key_times(runs: Path) -> list[float]:
    """Seconds from each key to what it does, while the large file is read."""
    rhythm = random.Random(0)
    found: list[float] = []
    with Terminal(runs) as terminal:
        terminal.until(lambda text: "overview" in text)  # the app is there, and takes keys
        terminal.rest(0.2)
        while not is_exact(terminal.letters.text) and len(found) < 400:
            for key, name in (("j", "little"), ("k", "big")):
                pressed = _now(terminal)
                terminal.press(key)
                # Its name stands in the list, and once more where it is the selected one.
                found.append(
                    terminal.until(lambda text, name=name: text.count(name) >= 2)  # type: ignore[misc]
                    - pressed
                )
            terminal.rest(rhythm.uniform(0.05, 0.25))
    return found


def _now(terminal: Terminal) -> float:
    return terminal.until(lambda _: True)


def read_seconds(runs: Path) -> float:
    """The reading alone, without a screen: what the exact curve waits for."""
    follower = RunFollower(RunDirectory(runs / "big"))
    began = time.perf_counter()
    follower.poll()
    while follower.more:
        follower.poll_metrics()
    follower.detail()
    return time.perf_counter() - began


def bare_orjson(metrics: Path) -> int:
    """Parse each line and keep nothing."""
    count = 0
    with metrics.open("rb") as file:
        for line in file:
            orjson.loads(line)
            count += 1
    return count


def bare_seconds(metrics: Path) -> float:
    """The least that any reader needs."""
    began = time.perf_counter()
    bare_orjson(metrics)
    return time.perf_counter() - began


def measure(*, quick: bool = False) -> Result:
    """Starts of the program, cached files, best of each."""
    size = QUICK_SIZE if quick else SIZE
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        lines = write_runs(runs, size)
        starts, bare = [], []
        for _ in range(1 if quick else STARTS):
            starts.append(start(runs))
            bare.append(bare_seconds(runs / "big" / "metrics.jsonl"))
        keys = key_times(runs)
        reading = read_seconds(runs)
    approximate, exact = min(s[0] for s in starts), min(s[1] for s in starts)
    memory, latency = max(s[2] for s in starts), p95(keys)
    what = f"{size / 1e9:g} GB, {lines / 1e6:.3g}M lines"
    rows = [
        Row(f"{what}: approximate curve", 1e3 * approximate, "ms"),
        Row(f"{what}: bare orjson", min(bare), "s"),
        Row(f"{what}: exact curve", exact, "s", "bare orjson", exact / min(bare)),
        Row(f"{what}: reading it without a screen", reading, "s"),
        Row(f"{what}: most resident memory, with its helper", memory, "MB"),
        Row(
            f"key to its effect while reading, median of {len(keys)}",
            1e3 * statistics.median(keys),
            "ms",
        ),
        Row("key to its effect while reading, p95", 1e3 * latency, "ms"),
    ]
    holds = [
        Hold(
            f"approximate curve ≤ {APPROXIMATE_MS} ms after exec",
            f"{1e3 * approximate:.0f} ms",
            1e3 * approximate <= APPROXIMATE_MS,
        ),
        Hold(f"exact ≤ {EXACT_SECONDS:g} s", f"{exact:.1f} s", exact <= EXACT_SECONDS),
        Hold(
            f"exact ≤ {MOST:g}x the bare parser's time, start included",
            f"{exact / min(bare):.2f}x",
            exact <= MOST * min(bare),
        ),
        Hold(
            f"keys p95 ≤ {KEY_MS} ms while reading",
            f"{1e3 * latency:.0f} ms",
            1e3 * latency <= KEY_MS,
        ),
        Hold(f"memory ≤ {MEMORY_MB} MB", f"{memory:.0f} MB", memory <= MEMORY_MB),
    ]
    return Result(rows, holds, ["The file is in the page cache."])


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
