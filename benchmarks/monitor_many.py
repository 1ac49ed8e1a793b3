"""Many runs: the cost of ten busy ones, memory over time, and how fast a thousand are listed.

Busy: one process writes a thousand lines a second into each of ten runs, one write per line, while
the real program watches on a 120x40 terminal; its share of a core is counted. A run with ten steps
a second needs an hour for the lines written here in 36 seconds. Memory may grow by the size of the
new numbers and little more. Idle: a thousand ended runs.

    python -m benchmarks.monitor_many [--quick]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

from benchmarks.interleave import ROOT
from benchmarks.monitor_live import record
from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.terminal import Terminal
from monitor.data.scanner import RunScanner

RUNS, LINES_PER_SECOND = 10, 1000
BUSY_SHARE, IDLE_SHARE, TTY_KB = 0.10, 0.005, 100
LISTED, LISTED_SECONDS = 1000, 1.0
HOUR = 36.0  # seconds for an hour's lines
GROWTH_MB = 16  # beyond what the numbers take


def write_for(runs_dir: Path, seconds: float) -> None:
    """Be ten trainers for so long."""
    from contextlib import ExitStack

    from shared.run_writer import RunWriter

    with ExitStack() as stack:
        writers = [
            stack.enter_context(RunWriter(runs_dir, name=f"busy{i}", max_steps=10**8))
            for i in range(RUNS)
        ]
        began, step = time.perf_counter(), 0
        while (now := time.perf_counter() - began) < seconds:
            due = int(now * LINES_PER_SECOND)
            while step < due:
                step += 1
                for writer in writers:
                    writer.log(step, **record(step))
            time.sleep(0.005)
        for writer in writers:
            writer.update(durable=True)


def busy(seconds: float) -> tuple[list[Row], list[Hold]]:
    """The monitor beside ten busy runs."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        runs.mkdir()
        code = (
            "import sys; from pathlib import Path; from benchmarks.monitor_many import write_for; "
            "write_for(Path(sys.argv[1]), float(sys.argv[2]))"
        )
        trainers = subprocess.Popen(
            [sys.executable, "-c", code, str(runs), str(seconds + 6)], cwd=ROOT
        )
        try:
            with Terminal(runs) as terminal:
                terminal.until(lambda text: text.count("busy") >= RUNS)
                terminal.rest(4.0)
                first, cpu, sent = terminal.memory(), terminal.cpu_seconds(), terminal.bytes
                began = time.perf_counter()
                terminal.rest(seconds)
                took = time.perf_counter() - began
                share = (terminal.cpu_seconds() - cpu) / took
                tty = (terminal.bytes - sent) / took / 1e3
                growth = terminal.memory() - first
        finally:
            trainers.wait()
        size = next(runs.glob("busy0*/metrics.jsonl")).stat().st_size
    # One run is selected: six metrics, their steps and times, and a sixth more for the extremes.
    taken = seconds * LINES_PER_SECOND * 8 * 8 * 1.17 / 1e6
    rows = [
        Row(f"{RUNS} runs, {LINES_PER_SECOND} lines/s each: of a core", 100 * share, "%"),
        Row("… to the terminal", tty, "kB/s"),
        Row(f"… memory after {seconds:g} s, more than at first", growth, "MB"),
        Row("… of which the numbers themselves", taken, "MB"),
        Row("… metrics of each run at the end", size / 1e6, "MB"),
    ]
    holds = [
        Hold(
            f"{RUNS} x {LINES_PER_SECOND} lines/s ≤ {BUSY_SHARE:.0%} of a core",
            f"{share:.1%}",
            share <= BUSY_SHARE,
        ),
        Hold(f"≤ {TTY_KB} kB/s to the terminal", f"{tty:.0f} kB/s", tty <= TTY_KB),
        Hold(
            f"memory grows by ≤ {GROWTH_MB} MB beyond the numbers",
            f"{growth - taken:.0f} MB",
            growth - taken <= GROWTH_MB,
        ),
    ]
    return rows, holds


def write_ended(runs: Path, count: int) -> None:
    """So many runs that have ended, of a thousand steps each."""
    lines = b"".join(
        orjson.dumps({"step": step, "time": 1.79e9 + step, **record(step)}) + b"\n"
        for step in range(1, 1001)
    )
    for number in range(count):
        run = runs / f"run{number:04}_20260101_000000"
        (run / "checkpoints").mkdir(parents=True)
        (run / "metrics.jsonl").write_bytes(lines)
        state = {
            "run_id": run.name,
            "run_name": f"run{number:04}",
            "status": ("completed", "failed", "cancelled")[number % 3],
            "current_step": 1000,
            "max_steps": 1000,
            "current_loss": 2.5,
            "started_at": 1.7e9 + number,
            "exit": {"code": 0, "reason": "done", "last_log_lines": ["a line"] * 10},
        }
        (run / "run_state.json").write_bytes(orjson.dumps(state))


def many(count: int, idle: float) -> tuple[list[Row], list[Hold]]:
    """The list of so many, and what it costs to stand still."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        write_ended(runs, count)
        scans: list[float] = []
        for _ in range(3):
            scanner = RunScanner(runs, time.time)
            began = time.perf_counter()
            if len(scanner.scan()) != count:
                raise RuntimeError("not all runs were found")
            scans.append(time.perf_counter() - began)
        again: list[float] = []
        for _ in range(20):
            began = time.perf_counter()
            scanner.scan()
            again.append(time.perf_counter() - began)
        newest = f"run{count - 1:04}"
        with Terminal(runs) as terminal:
            shown = terminal.until(lambda text: newest in text)
            terminal.rest(12.0)  # the sparklines come by and by
            cpu = terminal.cpu_seconds()
            terminal.rest(idle)
            share = (terminal.cpu_seconds() - cpu) / idle
    rows = [
        Row(f"{count} runs: first look", 1e3 * min(scans), "ms"),
        Row(f"{count} runs: a later look", 1e3 * statistics.median(again), "ms"),
        Row(f"{count} runs: from exec to the list on the screen", 1e3 * shown, "ms"),
        Row(f"{count} runs: idle, of a core", 100 * share, "%"),
    ]
    holds = [
        Hold(
            f"{count} runs listed in ≤ {LISTED_SECONDS:g} s",
            f"{min(scans):.2f} s",
            min(scans) <= LISTED_SECONDS,
        ),
        Hold(f"idle ≤ {IDLE_SHARE:.1%}", f"{share:.2%}", share <= IDLE_SHARE),
    ]
    return rows, holds


def measure(*, quick: bool = False) -> Result:
    """Both."""
    rows, holds = many(200 if quick else LISTED, 5.0 if quick else 30.0)
    more_rows, more_holds = busy(6.0 if quick else HOUR)
    return Result(rows + more_rows, holds + more_holds)


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
