"""500,000 scalars of TensorBoard until all of them are in memory, beside TensorBoard's own loader.

50,000 steps with ten tags each, an event per scalar as `SummaryWriter.add_scalar` writes them. The
peer is TensorBoard's `EventAccumulator` that keeps every scalar; its default keeps 10,000 of a tag.
It is left out where TensorBoard is not installed. Seconds of the processor, in turns, the best
round of each; the file is in the page cache.

    python -m benchmarks tensorboard_reading [--quick]
"""

from __future__ import annotations

import importlib.util
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.record import Hold, Result, Row, run_alone

STEPS, QUICK_STEPS, TAGS = 50_000, 5_000, 10
ROUNDS = 3
MOST = 3.0  # seconds of the processor
OURS, PEER = "train-monitor", "TensorBoard's EventAccumulator"


def write_events(path: Path, steps: int) -> int:
    """An event file of that many steps; gives the number of scalars."""
    from crc32c import crc32c

    from shared.foreign.event_proto import message

    def masked(data: bytes) -> bytes:
        crc = crc32c(data)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    event = message("Event")
    with path.open("wb") as file:
        for step in range(steps):
            for tag in range(TAGS):
                value = {"tag": f"train/metric_{tag}", "simple_value": 1.0 / (step + tag + 1)}
                told = event(wall_time=1e9 + step, step=step, summary={"value": [value]})
                data = told.SerializeToString()
                length = struct.pack("<Q", len(data))
                file.write(length + masked(length) + data + masked(data))
    return steps * TAGS


def ours(folder: Path) -> int:
    """Every scalar with our reader, with checksums verified."""
    from shared.foreign.interface import Found
    from shared.foreign.tensorboard import TensorBoard

    reader = TensorBoard().open(Found(folder, "TensorBoard"))
    while reader.poll():
        pass
    table = reader.table
    return sum(len(table.series(key).steps) for key in table.keys())  # noqa: SIM118  not a dict


def theirs(folder: Path) -> int:
    """Every scalar with TensorBoard's reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    tags = reader.Tags()
    scalars = sum(len(reader.Scalars(tag)) for tag in tags["scalars"])
    return scalars + sum(len(reader.Tensors(tag)) for tag in tags["tensors"])


def measure(*, quick: bool = False) -> Result:
    """Seconds of the processor of each, best of the rounds."""
    readers: dict[str, Callable[[Path], int]] = {OURS: ours}
    if importlib.util.find_spec("tensorboard") is not None:
        readers[PEER] = theirs
    best = dict.fromkeys(readers, float("inf"))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "events.out.tfevents.1700000000.host"
        scalars = write_events(path, QUICK_STEPS if quick else STEPS)
        megabytes = path.stat().st_size / 1e6
        for _ in range(ROUNDS):
            for name, read in readers.items():
                began = time.process_time()
                if read(folder) != scalars:
                    raise RuntimeError(f"{name} did not read {scalars} scalars")
                best[name] = min(best[name], time.process_time() - began)
    what = f"{scalars / 1e3:,.0f}k scalars, {megabytes:.0f} MB"
    if PEER not in best:
        rows = [Row(f"{what}: {OURS}", best[OURS], "CPU s")]
    else:
        ratio = best[OURS] / best[PEER]
        rows = [Row(f"{what}: {PEER}", best[PEER], "CPU s")]
        rows += [Row(f"{what}: {OURS}", best[OURS], "CPU s", PEER, ratio)]
    number = f"500k scalars within {MOST:g} CPU-seconds"
    seconds = best[OURS] * STEPS * TAGS / scalars
    return Result(rows, [Hold(number, f"{seconds:.2f} s", seconds <= MOST)])


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, measure))
