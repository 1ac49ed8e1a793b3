"""Runs on another host over a slow link: 10 Mbit/s, and 50 ms there and back.

A program in the place of ssh carries so many bytes per second in each direction, as late as that;
the host's side is the real one. The real monitor starts on a run with 1 GB of metrics, timed from
`exec` to the first curve of all of it. Then come the states of 200 runs, beside an empty folder,
which is what starting the host's side takes. At last, while all of the gigabyte is fetched, a
request such as a key makes is sent at random moments. Logging in is not part: there is no ssh. The
peer of the first curve is the same monitor on the same folder without a link, in turns.

    python -m benchmarks.remote_link [--quick]
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import orjson

from benchmarks.interleave import ROOT
from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.terminal import Terminal, has_curve, p95
from shared.remote.address import parse_address
from shared.remote.client import Link
from shared.remote.mirror import Mirror

BITS, LATENCY = 10e6, 0.05  # per second; seconds there and back
SIZE, QUICK_SIZE = 1_000_000_000, 50_000_000
RUNS = 200
FIRST_SECONDS, LIST_SECONDS, KEY_MS = 2.0, 2.0, 250
STARTS = 3
_BLOCK = 20_000  # lines made at a time
_KEYS = 40


def write_metrics(path: Path, size: int) -> int:
    """About `size` bytes as a trainer leaves them, with noise of their own; returns the lines.

    Steps have a fixed width, so that a block is made once and numbered anew each time.
    """
    noise = np.random.default_rng(0)
    losses = 1.5 + noise.normal(0, 0.1, _BLOCK)
    norms, times = noise.gamma(4, 0.2, _BLOCK), 48 + noise.gamma(2, 0.7, _BLOCK)
    lines = [
        b'{"step":          ,' + orjson.dumps(
            {
                "time": 1.79e9 + n * 0.05,
                "loss": float(np.float32(loss)),
                "gradient_norm": float(np.float32(norm)),
                "phase": "full",
                "was_predicted": False,
                "prediction_error": None,
                "step_time_ms": time_ms,
                "learning_rate": 1.5e-4 * n / _BLOCK,
                "tokens_total": n * 16384,
                "tokens_per_second": 16384e3 / time_ms,
                "attempt": 1,
            }
        )[1:]
        for n, (loss, norm, time_ms) in enumerate(
            zip(losses.tolist(), norms.tolist(), times.tolist(), strict=True)
        )
    ]  # fmt: skip
    width = max(map(len, lines)) + 1
    block = np.frombuffer(b"".join(x.ljust(width - 1) + b"\n" for x in lines), np.uint8).copy()
    rows = block.reshape(_BLOCK, width)
    written = 0
    with path.open("wb") as file:
        while written * width < size:
            steps = np.arange(written + 1, written + _BLOCK + 1)
            for place in range(10):
                digit = steps // 10 ** (9 - place)
                rows[:, 8 + place] = np.where(digit > 0, 48 + digit % 10, 32)
            file.write(block)
            written += _BLOCK
    return written


def write_run(folder: Path, name: str, size: int) -> None:
    """A run that ended, with that much of metrics."""
    run = folder / name
    run.mkdir(parents=True)
    steps = write_metrics(run / "metrics.jsonl", size) if size else 0
    state = {
        "run_id": name,
        "run_name": name,
        "status": "completed",
        "current_step": steps,
        "max_steps": steps,
        "started_at": 2e9,
        "exit": {"reason": "all steps done", "code": 0},
        "config_summary": {"model": "llama", "parameters": 124e6, "dataset": f"/data/{name}"},
    }
    (run / "run_state.json").write_bytes(orjson.dumps(state))


class SlowHost:
    """An environment in which `ssh` is a slow link to this machine."""

    def __init__(self, folder: Path) -> None:
        self._count = folder / "count"
        programs = folder / "bin"
        programs.mkdir()
        slow = f"{sys.executable} -S -E {Path(__file__).parent}/slow_link.py {BITS} {LATENCY}"
        for name, text in (
            ("ssh", f'exec {slow} {self._count} "$@"'),
            ("train-monitor", f'export PYTHONPATH={ROOT}\nexec {sys.executable} -m monitor "$@"'),
        ):
            (programs / name).write_text(f"#!/bin/sh\n{text}\n")
            (programs / name).chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    @property
    def received(self) -> int:
        """Bytes that came from the host since the link was made."""
        return int(self._count.read_bytes() or b"0")


def first_curve(host: SlowHost, runs: Path) -> tuple[float, int]:
    """Seconds until the monitor shows a curve, and the bytes that it took."""
    command = [sys.executable, "-m", "monitor", f"ssh://box{runs}"]
    with Terminal(runs, program=command, environment=host.environment) as terminal:
        return terminal.until(has_curve), host.received


def first_curve_here(runs: Path) -> float:
    """Seconds until the monitor shows a curve of the folder itself."""
    with Terminal(runs) as terminal:
        return terminal.until(has_curve)


def list_seconds(host: SlowHost, runs: Path, count: int) -> float:
    """Seconds until the states of all runs are here."""
    with tempfile.TemporaryDirectory() as copy:
        began = time.perf_counter()
        link = Link(parse_address(f"ssh://box{runs}"), environment=host.environment)
        try:
            mirror = Mirror(Path(copy))
            mirror.reconnected()
            mirror.step(link, 0.0, budget=60.0, enough=lambda: mirror.settled)
            found = time.perf_counter() - began
            if (there := len(list(Path(copy).glob("*/run_state.json")))) != count:
                raise RuntimeError(f"{there} of {count} states came")
            return found
        finally:
            link.close()


def while_loading(host: SlowHost, runs: Path) -> tuple[list[float], float, float]:
    """Seconds of each request while a long log is fetched; bytes per second of the log, and of the
    link.
    """
    rhythm = random.Random(0)
    with tempfile.TemporaryDirectory() as copy:
        link = Link(parse_address(f"ssh://box{runs}"), environment=host.environment)
        mirror, over = Mirror(Path(copy)), threading.Event()
        mirror.reconnected()

        def fetch() -> None:
            while not over.is_set():
                mirror.step(link, 0.0, lambda: ("big",), budget=0.5)

        thread = threading.Thread(target=fetch, daemon=True)
        thread.start()
        here = Path(copy) / "big" / "metrics.jsonl"
        while not here.exists() or not here.stat().st_size:
            time.sleep(0.05)
        time.sleep(2.0)
        began, size, received = time.perf_counter(), here.stat().st_size, link.received
        keys: list[float] = []
        for _ in range(_KEYS):
            time.sleep(rhythm.uniform(0.05, 0.25))
            asked = time.perf_counter()
            link.request({"op": "stat", "path": "big/run_state.json"})
            keys.append(time.perf_counter() - asked)
        seconds = time.perf_counter() - began
        log, wire = here.stat().st_size - size, link.received - received
        over.set()
        thread.join()
        link.close()
        return keys, log / seconds, wire / seconds


def measure(*, quick: bool) -> Result:
    """All figures."""
    size = QUICK_SIZE if quick else SIZE
    what = f"{size / 1e9:g} GB"
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        host = SlowHost(top)
        write_run(top / "one", "big", size)
        for n in range(RUNS):
            write_run(top / "many", f"run-{n:03}", 0)
        (top / "none").mkdir()
        starts = [
            (*first_curve(host, top / "one"), first_curve_here(top / "one")) for _ in range(STARTS)
        ]
        first, received = min(start[:2] for start in starts)
        here = min(start[2] for start in starts)
        empty = min(list_seconds(host, top / "none", 0) for _ in range(STARTS))
        many = min(list_seconds(host, top / "many", RUNS) for _ in range(STARTS))
        keys, log, wire = while_loading(host, top / "one")
    latency = p95(keys)
    rows = [
        Row(f"{what}: first curve of a folder here, from exec", here, "s"),
        Row(f"{what}: first curve over the link", first, "s", "here", first / here),
        Row(f"{what}: received until then", received / 1e3, "kB"),
        Row("an empty folder, until it is listed", empty, "s"),
        Row(
            f"{RUNS} runs, until their states are here", many, "s", "an empty folder", many / empty
        ),
        Row(f"{what}: fetched of the log while loading", log / 1e6, "MB/s"),
        Row(f"{what}: received meanwhile", 8 * wire / 1e6, "Mbit/s"),
        Row("a key's request while loading, median", 1e3 * statistics.median(keys), "ms"),
        Row("a key's request while loading, p95", 1e3 * latency, "ms"),
    ]
    holds = [
        Hold(
            f"first curve of {what} ≤ {FIRST_SECONDS:g} s",
            f"{first:.2f} s",
            first <= FIRST_SECONDS,
        ),
        Hold(f"{RUNS} runs listed ≤ {LIST_SECONDS:g} s", f"{many:.2f} s", many <= LIST_SECONDS),
        Hold(
            f"a key's request p95 ≤ {KEY_MS} ms while loading",
            f"{1e3 * latency:.0f} ms",
            1e3 * latency <= KEY_MS,
        ),
    ]
    return Result(rows, holds, ["Both sides share this machine's processor."])


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
