"""Writing a model as GGUF: speed, size and memory.

The `nano-125m` preset with untrained weights, made ternary for the ternary type, its vocabulary in
Q8_0; `--quick` uses `d20`. Speed is that of `trainer export` after the model is loaded: the plan,
the file, its fsync. The peer is the bare `gguf` package, which quantizes every tensor and then
writes them all: the same keys, tokens and types, and an fsync. In turns, the best round of each.
Memory is the peak of a process while it writes Q8_0, minus what it had before.

    python -m benchmarks.export [--quick]
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.record import Hold, Result, Row, run_alone

TYPES = ("F32", "F16", "Q8_0", "Q4_0", "TQ1_0")
REPEATS = 5
HOLD_SPEED = 0.8  # of the bare package's
HOLD_BYTES = 100e6  # the production guide's: below 100 MB as GGUF
HOLD_MEMORY = 0.5  # of the weights, on top of them


def make_opened(preset: str, ternary: bool) -> Any:
    """An OpenedModel of untrained weights, its tokenizer one of bytes."""
    import torch

    from trainer.checkpoint.opening import OpenedModel
    from trainer.config.resolve import load_source, resolve
    from trainer.data.tokenizer_training import train_tokenizer
    from trainer.model.language_model import LanguageModel

    settings, _ = load_source(preset)
    model = LanguageModel(resolve(settings, {"model.hyper_streams": 0}).model)
    model.initialize(0)
    with torch.no_grad():
        for name, weight in model.named_parameters() if ternary else ():
            if ".layers." in name and weight.ndim == 2:
                scale = weight.abs().mean().bfloat16().float()
                weight.copy_((weight / scale).round_().clamp_(-1, 1) * scale)
    return OpenedModel(model.eval(), train_tokenizer((), kind="char"), Path())


def write_ours(opened: Any, path: Path, kind: str) -> float:
    """Seconds of the exporter."""
    from trainer.export.gguf_file import prepare_gguf, write_gguf
    from trainer.formats.gguf_types import TERNARY, find_type

    vocabulary = find_type("Q8_0") if kind in TERNARY else None
    started = time.perf_counter()
    write_gguf(prepare_gguf(opened, path, find_type(kind), vocabulary=vocabulary))
    return time.perf_counter() - started


def write_bare(opened: Any, path: Path, kind: str) -> float:
    """Seconds of the `gguf` package by itself, with the types that the exporter chooses."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    from trainer.export.gguf_file import weight_in_gguf
    from trainer.export.plan import plan_gguf
    from trainer.formats.gguf_tokenizer import add_tokenizer
    from trainer.formats.gguf_types import TERNARY, find_type
    from trainer.formats.gguf_writing import add_shape

    read = functools.partial(weight_in_gguf, opened.model)
    vocabulary = find_type("Q8_0") if kind in TERNARY else None
    plan = plan_gguf(opened.model.config, find_type(kind), read, vocabulary=vocabulary)
    started = time.perf_counter()
    writer = GGUFWriter(path, plan.architecture)
    add_shape(writer, opened.model.config)
    add_tokenizer(writer, opened.tokenizer, opened.model.dimensions.V, None)
    for planned in plan.tensors:
        chosen = GGMLQuantizationType[planned.kind]
        writer.add_tensor(
            planned.tensor.gguf_name, quantize(read(planned.tensor), chosen), raw_dtype=chosen
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - started


def extra_memory(preset: str) -> int:
    """Bytes by which a fresh process grows, at most, while it writes Q8_0."""
    code = (
        "import sys; from pathlib import Path; import benchmarks.export as b;"
        f"print(b.growth(b.make_opened({preset!r}, False), Path(sys.argv[1])))"
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", code, str(Path(folder) / "model.gguf")]
        return int(subprocess.check_output(command))


def growth(opened: Any, path: Path) -> int:
    """Bytes of memory taken while `path` is written, looked at every millisecond."""
    import psutil

    process = psutil.Process()
    before = most = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    write_ours(opened, path, "Q8_0")
    done.set()
    watching.join()
    return most - before


def measure(*, quick: bool = False) -> Result:
    """Every type, then memory."""
    preset = "d20" if quick else "nano-125m"
    rows: list[Row] = []
    least, smallest = math.inf, 0
    numbers = 0
    for kind in TYPES:
        opened = make_opened(preset, kind == "TQ1_0")
        numbers = sum(weight.numel() for weight in opened.model.parameters())
        ours = bare = math.inf
        for _ in range(1 if quick else REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.gguf"
                ours = min(ours, write_ours(opened, path, kind))
                smallest = path.stat().st_size
                bare = min(bare, write_bare(opened, Path(folder) / "bare.gguf", kind))
        speed = numbers / ours / 1e6
        rows.append(Row(f"{preset} as {kind}", speed, "M weights/s", "bare gguf", bare / ours))
        rows.append(Row(f"{kind}: file", smallest / 1e6, "MB", "F16", smallest / (2 * numbers)))
        if kind != "TQ1_0":  # whose weights are looked at twice: are they ternary?
            least = min(least, bare / ours)
    more = extra_memory(preset)
    rows.append(Row("memory on top of the model", more / 1e6, "MB"))
    share = more / (4 * numbers)
    holds = [
        Hold(f"≥ {HOLD_SPEED}x the bare package", f"at least {least:.2f}x", least >= HOLD_SPEED),
        Hold("ternary below 100 MB", f"{smallest / 1e6:.1f} MB", smallest < HOLD_BYTES),
        Hold(f"≤ {HOLD_MEMORY}x the weights more memory", f"{share:.2f}x", share <= HOLD_MEMORY),
    ]
    note = "TQ1_0 includes the check that the weights are ternary."
    return Result(rows, holds, [note])


def main() -> int:
    """Measure and print."""
    return run_alone(__doc__, measure)


if __name__ == "__main__":
    sys.exit(main())
