"""A model of 100M parameters on a CPU: steps per second, and the peak of the process.

The preset `100m` (AdamW) with one sequence of 512 tokens per step, by the real loop, one thread, in
a process of its own. Seconds are those of the processor, of the fastest step after the first: other
work on the machine does not count, and a core of one's own makes so many steps. The peak is the
kernel's (`VmHWM`), with a validation and a save in the background. The training-tools guide says
0.2 steps per second and not on what.

    python -m benchmarks hundred_million [--quick]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time

from benchmarks.record import Hold, Result, Row
from benchmarks.training_memory import peak_bytes

GUIDE = 0.2
STEPS = 4
SETTINGS = {
    "data.dataset": "synthetic",
    "data.n_samples": 1000,
    "train.device": "cpu",
    "train.threads": 1,
    "train.batch_size": 1,
    "train.accumulation_steps": 1,
    "train.seq_len": 512,
    "eval.interval": 2,
    "eval.batches": 1,
    "checkpoint.interval": 2,
}


def train(dtype: str, steps: int) -> dict[str, float]:
    """In this process: the processor's seconds of the fastest step, parameters, bytes."""
    from shared.run_writer import RunWriter
    from trainer.config.resolve import load_source, resolve
    from trainer.loop.hooks import Hooks
    from trainer.loop.plan import plan
    from trainer.loop.session import build
    from trainer.loop.training import Training
    from trainer.model.shapes import count_parameters

    changes = {**SETTINGS, "train.dtype": dtype, "train.max_steps": steps}
    planned = plan(resolve({**load_source("100m")[0], **changes}))
    took: list[float] = []
    began = [0.0]

    def before(_training: object) -> None:
        began[0] = time.process_time()

    def after(_session: object, _step: object) -> None:
        took.append(time.process_time() - began[0])

    with tempfile.TemporaryDirectory() as folder:
        writer = RunWriter(folder, name="100m", max_steps=planned.max_steps)
        hooks = Hooks(before_step=before, after_step=after)
        Training(build(planned), writer, hooks=hooks).run()
    return {
        "seconds": min(took[1:]),
        "parameters": count_parameters(planned.config.model),
        "estimate": planned.memory.total,
        "peak": peak_bytes(),
    }


def measure(*, quick: bool) -> Result:
    """In bf16 and in fp32; `quick`: bf16 alone, two steps."""
    rows: list[Row] = []
    rates: list[float] = []
    within: list[float] = []
    for dtype in ("bf16",) if quick else ("bf16", "fp32"):
        steps = 2 if quick else STEPS
        command = [sys.executable, "-m", "benchmarks.hundred_million", dtype, str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        size = f"{found['parameters'] / 1e6:.1f}M, {dtype}"
        peak, estimate = found["peak"], found["estimate"]
        rows += [
            Row(f"{size}: processor time of a step", found["seconds"], "s"),
            Row(f"{size}: steps per second of a core", 1 / found["seconds"], "steps/s"),
            Row(f"{size}: peak", peak / 2**20, "MiB"),
            Row(f"{size}: estimate", estimate / 2**20, "MiB", "peak", estimate / peak),
        ]
        rates.append(1 / found["seconds"])
        within.append(abs(1 - estimate / peak))
    return Result(
        rows,
        [
            Hold(f"≥ {GUIDE} steps per second", f"{min(rates):.2f}", min(rates) >= GUIDE),
            Hold("estimates within 10% of the peak", f"{max(within):.0%}", max(within) <= 0.1),
        ],
    )


def main() -> None:
    """One training, for `measure`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dtype", choices=("bf16", "fp32"))
    parser.add_argument("steps", type=int)
    options = parser.parse_args()
    print(f"\n{json.dumps(train(options.dtype, options.steps))}")


if __name__ == "__main__":
    main()
