"""The memory that `--dry-run` estimates beside the peak of a real training, for every preset.

Each training is a process of its own: two optimizer steps, a validation and a background save, and
a third step while the second copy of the state exists. The peak is the kernel's (`VmHWM`). Presets
that do not fit into the free memory are named below with their estimates.

    python -m benchmarks.training_memory PRESET [--set KEY=VALUE …]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.record import Hold, Result, Row

WITHIN = 0.10  # of the measured peak
#: Presets whose estimate is above this share of the free memory are not trained.
SHARE = 0.85
#: A short training in which everything happens that takes memory. More micro-batches than two do
#: not take more.
SHORT = {
    "data.dataset": "synthetic",
    "data.n_samples": 1000,
    "train.device": "cpu",
    "train.max_steps": 3,
    "eval.interval": 2,
    "eval.batches": 2,
    "checkpoint.interval": 2,
}


@dataclass(frozen=True)
class Measured:
    """Bytes: as estimated before the training, and the peak of the process."""

    preset: str
    estimated: int
    measured: int
    described: str

    @property
    def ratio(self) -> float:
        """The estimate over the peak."""
        return self.estimated / self.measured


def peak_bytes() -> int:
    """The largest resident memory of this process so far."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def train(preset: str, changes: Sequence[str], dry_run: bool) -> Measured:
    """In this process: plan the training of a preset, and make it unless `dry_run`."""
    from shared.run_writer import RunWriter
    from trainer.config.resolve import load_source, parse_assignment, resolve
    from trainer.loop.plan import plan
    from trainer.loop.session import build
    from trainer.loop.training import Training

    settings = {**load_source(preset)[0], **SHORT}
    if settings.get("train.accumulation_steps", 1) > 1:
        settings["train.accumulation_steps"] = 2
    settings.update(map(parse_assignment, changes))
    planned = plan(resolve(settings))
    estimate = planned.memory
    if not dry_run:
        with tempfile.TemporaryDirectory() as folder:
            writer = RunWriter(folder, name=preset, max_steps=planned.max_steps)
            Training(build(planned), writer).run()
    return Measured(preset, estimate.total, peak_bytes(), str(estimate))


def apart(preset: str, changes: Sequence[str], *, dry_run: bool) -> Measured:
    """As `train`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training_memory", "--here", preset]
    command += [word for change in changes for word in ("--set", change)]
    command += ["--dry-run"] if dry_run else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def measure(*, quick: bool) -> Result:
    """Every preset that fits into the free memory; `quick`: the smallest two."""
    import psutil

    from trainer.config.resolve import preset_names

    rows, notes, ratios, planned = [], [], [], []
    for preset in preset_names():
        try:
            planned.append(apart(preset, (), dry_run=True))
        except subprocess.CalledProcessError:
            notes.append(f"{preset} is refused here: its weights and optimizer alone do not fit.")
    planned.sort(key=lambda found: found.estimated)
    for plan in planned[:2] if quick else planned:
        if plan.estimated > SHARE * psutil.virtual_memory().available:
            notes.append(f"{plan.preset} does not fit here: {plan.described}.")
            continue
        found = apart(plan.preset, (), dry_run=False)
        ratios.append(found.ratio)
        rows.append(Row(f"{found.preset}: peak", found.measured / 2**20, "MiB"))
        estimate = found.estimated / 2**20
        rows.append(Row(f"{found.preset}: estimate", estimate, "MiB", "peak", found.ratio))
    worst = max(ratios, key=lambda ratio: abs(1 - ratio))
    number = f"estimates within {WITHIN:.0%} of the peak"
    return Result(rows, [Hold(number, f"{worst:.2f}x", abs(1 - worst) <= WITHIN)], notes)


def main() -> None:
    """One measurement of a preset with changes, here or in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    options = parser.parse_args()
    if options.here:
        found = train(options.preset, options.changes, options.dry_run)
        print(f"\n{json.dumps(asdict(found))}")
        return
    found = apart(options.preset, options.changes, dry_run=options.dry_run)
    print(f"{found.described}; peak {found.measured / 2**20:.0f} MiB, ratio {found.ratio:.2f}")


if __name__ == "__main__":
    main()
