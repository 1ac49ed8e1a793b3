"""A million steps on the screen: ours beside `wandb leet`, in one run.

The same numbers under the same names, in our `metrics.jsonl` and in the transaction log of the
`wandb` client, both on a 120x40 terminal, in turns, files in the page cache. First: a curve is
drawn. Complete: nothing is drawn any more and CPU use stays below 5 % for two seconds (not
counted); ours also says that it is complete. Best of the rounds. The peer is skipped if the
`wandb` package is not installed (`pip install -e '.[peers]'`, or set LEET_PYTHON to an interpreter
that has it).

    python -m benchmarks.monitor_leet [--quick]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

from benchmarks.monitor_start import LINE, is_exact, write_metrics
from benchmarks.record import Hold, Result, Row, run_alone
from benchmarks.terminal import Terminal, has_curve

STEPS, QUICK_STEPS = 1_000_000, 100_000
ROUNDS = 2
PATIENCE = 600.0  # seconds
_QUIET, _IDLE = 2.0, 0.05  # seconds, and of a core
_TICK = 0.1  # seconds
FASTER = 12.0  # times as fast as the peer to the complete curve

#: Turns our file into a W&B transaction log: LevelDB's log format (blocks of 32 KiB, records cut
#: at their edges, CRC-32 of type and data) of protobuf records, as the client writes it.
_CONVERT = """
import json, struct, sys, zlib
from wandb.proto import wandb_internal_pb2 as pb

BLOCK, HEAD = 32768, 7

def log(path):
    with open(path, "wb") as file:
        file.write(struct.pack("<4sHB", b":W&B", 0xBEE1, 0))
        at = 7
        while True:
            data = yield
            if data is None:
                return
            first = True
            while True:
                left = BLOCK - at % BLOCK
                if left < HEAD:
                    file.write(bytes(left))
                    at += left
                    continue
                part, data = data[: left - HEAD], data[left - HEAD :]
                kind = (1 if first else 4) if not data else (2 if first else 3)
                crc = zlib.crc32(bytes([kind]) + part)
                file.write(struct.pack("<IHB", crc, len(part), kind) + part)
                at += HEAD + len(part)
                first = False
                if not data:
                    break

source, target = sys.argv[1:]
out = log(target)
next(out)
number = 0

def put(record):
    global number
    number += 1
    record.num = number
    out.send(record.SerializeToString())

record = pb.Record()
record.header.version_info.producer = "benchmark"
record.header.version_info.min_consumer = "0.70.0"
put(record)
record = pb.Record()
record.run.run_id, record.run.project = "peer", "benchmark"
record.run.start_time.seconds = 1790000000
put(record)
for line in open(source, "rb"):
    record = pb.Record()
    for key, value in json.loads(line).items():
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            continue
        key = {"step": "_step", "time": "_timestamp"}.get(key, key)
        item = record.history.item.add()
        item.nested_key.append(key)
        item.value_json = repr(value)
        if key == "_step":
            record.history.step.num = value
    put(record)
record = pb.Record()
record.exit.exit_code = 0
put(record)
try:
    out.send(None)
except StopIteration:
    pass
"""


def peer() -> str:
    """The interpreter that has the `wandb` package; empty when there is none."""
    python = os.environ.get("LEET_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import wandb.proto"], capture_output=True, check=False)
    return python if found.returncode == 0 else ""


def write_peer(python: str, metrics: Path, folder: Path) -> Path:
    """The same steps as the `wandb` client would have written them."""
    place = folder / "wandb" / "offline-run-20260101_000000-peer"
    place.mkdir(parents=True)
    log = place / "run-peer.wandb"
    subprocess.run([python, "-c", _CONVERT, str(metrics), str(log)], check=True)
    return log


def start_peer(python: str, log: Path) -> tuple[float, float, float, float]:
    """Seconds to the first and to the complete chart, seconds of processor, megabytes."""
    home = log.parent.parent.parent / "home"
    program = [python, "-m", "wandb", "leet", "run", str(log)]
    environment = {"WANDB_MODE": "offline", "HOME": str(home), "WANDB_ERROR_REPORTING": "false"}
    with Terminal(home, program=program, environment=environment) as terminal:
        first = terminal.until(has_curve, PATIENCE)
        with terminal.watched_memory() as most:
            complete = _until_quiet(terminal)
        return first, complete, terminal.cpu_seconds(), most[-1]


def _until_quiet(terminal: Terminal, done: Callable[[str], bool] = lambda _: True) -> float:
    """Seconds from the start until it had nothing more to do: the beginning of the first time in
    which it hardly computes and its screen is `done`, to a tenth of a second.
    """
    seen: deque[tuple[float, float]] = deque()
    while True:
        now, used = terminal.until(lambda _: True), terminal.cpu_seconds()
        if done(terminal.letters.text):
            seen.append((now, used))
        else:
            seen.clear()
        while seen and now - seen[0][0] >= _QUIET:
            then, before = seen.popleft()
            if used - before <= _IDLE * (now - then):
                return then
        if now > PATIENCE:
            raise RuntimeError(f"it is not complete:\n{terminal.letters.text}")
        terminal.rest(_TICK)


def start_ours(runs: Path) -> tuple[float, float, float, float]:
    """The same of our monitor, which says when the curve is exact."""
    with Terminal(runs) as terminal:
        first = terminal.until(has_curve)
        with terminal.watched_memory() as most:
            complete = _until_quiet(terminal, is_exact)
        return first, complete, terminal.cpu_seconds(), most[-1]


def measure(*, quick: bool = False) -> Result:
    """By turns, so that a busy moment meets both."""
    steps = QUICK_STEPS if quick else STEPS
    python = peer()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "runs" / "million"
        run.mkdir(parents=True)
        lines = write_metrics(run / "metrics.jsonl", steps * LINE)
        (run / "run_state.json").write_text('{"run_id": "million", "status": "completed"}')
        size = (run / "metrics.jsonl").stat().st_size
        log = write_peer(python, run / "metrics.jsonl", folder) if python else None
        for _ in range(1 if quick else ROUNDS):
            ours.append(start_ours(folder / "runs"))
            if log is not None:
                theirs.append(start_peer(python, log))
        peer_size = log.stat().st_size if log is not None else 0
    figures = (
        ("first curve", "ms", 0, 1e3),
        ("complete curve", "s", 1, 1.0),
        ("processor time until then", "s", 2, 1.0),
        ("most resident memory", "MB", 3, 1.0),
    )
    what, rows = f"{lines / 1e6:.3g}M steps", []
    best_ours = [min(one[i] for one in ours) for i in range(4)]
    best_theirs = [min(one[i] for one in theirs) for i in range(4)] if theirs else None
    for name, unit, i, scale in figures:
        if best_theirs is not None:
            rows.append(Row(f"{what}, wandb leet: {name}", scale * best_theirs[i], unit))
        ratio = best_ours[i] / best_theirs[i] if best_theirs is not None else None
        peer_name = "wandb leet" if ratio is not None else None
        rows.append(Row(f"{what}, ours: {name}", scale * best_ours[i], unit, peer_name, ratio))
    notes = [f"Our file has {size / 1e6:.0f} MB, theirs {peer_size / 1e6:.0f} MB."]
    holds = []
    if best_theirs is not None:
        first, complete = (best_theirs[i] / best_ours[i] for i in (0, 1))
        holds = [
            Hold("first curve no later than the peer's", f"{first:.1f}x as fast", first >= 1),
            Hold(
                f"complete curve ≥ {FASTER:g}x as fast as the peer's",
                f"{complete:.1f}x",
                complete >= FASTER,
            ),
        ]
    else:
        notes.append("The `wandb` package is not installed: no peer.")
    return Result(rows, holds, notes)


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
