"""Seconds until the validation loss that nanoGPT's own recipe for a CPU ends at.

Tiny Shakespeare as 65 characters. The peer is nanoGPT's CPU recipe: 4 layers, 128 wide, 64
characters of context, batch 12, AdamW, 2000 steps in fp32. Ours is the preset `shakespeare-cpu`,
trained by the real loop, as it comes and in fp32. One thread each, in turn; evaluation is not
counted. The loss is measured alike for all, on the whole last tenth of the text. Hold: ours ends
below the peer's loss in a fifth of its time.

    python -m benchmarks.time_to_loss [--quick] [--text FILE] [--page FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.experiments import ROOT, run
from benchmarks.nanogpt import Loop, Shape
from benchmarks.record import Hold, Result, Row
from benchmarks.shakespeare import SEQ_LEN, TEXT, Shakespeare, prepare, validation_loss
from benchmarks.training_run import open_run

PEER, OURS, OURS_FP32 = "nanoGPT's recipe", "shakespeare-cpu", "shakespeare-cpu, fp32"
STEPS = 2000
FASTER = 5.0
NO_CHANGES: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Reached:
    """A whole training: its seconds by the clock and of the processor, and its final loss."""

    wall: float
    cpu: float
    loss: float


def peer(data: Shakespeare, steps: int) -> Reached:
    """Train as nanoGPT does."""
    shape = Shape(4, 4, 128, SEQ_LEN, 12, data.vocab_size)
    loop = Loop(shape, data.train)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        loop.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    loop.model.eval()
    return Reached(wall, cpu, validation_loss(data.validation, loop.model))


def ours(data: Shakespeare, folder: Path, dtype: str, changes: Mapping[str, Any]) -> Reached:
    """Train the preset with the real loop."""
    from trainer.config.resolve import load_source
    from trainer.loop.training import Training

    preset, _ = load_source("shakespeare-cpu")
    own = {
        "data.path": str(data.train),
        "model.vocab_size": data.vocab_size,
        "train.dtype": dtype,
        "train.device": "cpu",
        "train.threads": 1,
        "checkpoint.interval": 10**9,
        "eval.sample_interval": 0,
    }
    session, writer = open_run({**preset, **own, **changes}, folder)
    with writer:
        wall, cpu = time.perf_counter(), time.process_time()
        Training(session, writer).run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    model = session.model.eval()
    loss = validation_loss(data.validation, lambda inputs, targets: model(inputs, targets).total)
    return Reached(wall, cpu, loss)


def work(who: str, text: Path, steps: int, changes: Mapping[str, Any] = NO_CHANGES) -> Reached:
    """Be one of the trainings: the peer's of so many steps, or ours with changes."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(text, Path(folder))
        if who == PEER:
            return peer(data, steps)
        dtype = "fp32" if who == OURS_FP32 else "auto"
        return ours(data, Path(folder) / "runs", dtype, changes)


def in_a_process(who: str, text: Path, steps: int) -> Reached:
    """The training in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.time_to_loss", "--worker", who]
    command += ["--text", str(text), "--steps", str(steps)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Reached(**json.loads(done.stdout.splitlines()[-1]))


def measure(*, quick: bool = False, text: Path = TEXT) -> Result:
    """All three, one after another; `quick` with a peer of 100 steps, which proves nothing."""
    if not text.is_file():
        raise SystemExit(f"{text} is absent; give tinyshakespeare.txt with --text.")
    steps = 100 if quick else STEPS
    found = {who: in_a_process(who, text, steps) for who in (PEER, OURS, OURS_FP32)}
    nano = found[PEER]
    rows, holds = [], []
    for who, one in found.items():
        rows.append(Row(f"{who}: loss at the end", one.loss, "nats/char"))
        for unit, mine, theirs in (("s", one.wall, nano.wall), ("s of CPU", one.cpu, nano.cpu)):
            rows.append(
                Row(f"{who}: time", mine, unit)
                if who == PEER
                else Row(f"{who}: time", mine, unit, "nanoGPT's", mine / theirs)
            )
        if who != PEER:
            faster, reached = nano.wall / one.wall, one.loss <= nano.loss
            told = f"{faster:.1f}x at {one.loss:.3f} against {nano.loss:.3f}"
            number = f"{who}: nanoGPT's loss ≥ {FASTER:g}x sooner"
            holds.append(Hold(number, told, reached and faster >= FASTER))
    return Result(rows, holds)


def main() -> int:
    """Measure and print, or be one of the trainings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path, help="the page to write the section into")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(asdict(work(options.worker, options.text, options.steps))))
        return 0
    found = partial(measure, quick=options.quick, text=options.text)
    return run("Time to quality", __doc__, "time_to_loss", found, options.page)


if __name__ == "__main__":
    sys.exit(main())
