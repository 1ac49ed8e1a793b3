"""Growing a model against training the large one from scratch, at equal arithmetic and equal time.

Tiny Shakespeare as characters, a Llama shape of 8 layers, one thread. Every run is made by the
real loop with its checkpoints and growths. Scratch and the two recipes of growth tune their
learning rate with the same number of trials on a seed of its own; the others take the rate of what
they vary. `equal FLOPs` is scratch with as many steps as cost what the late growth costs, `equal
time` with as many as take its processor time. The loss is that of the whole last tenth of the text,
in nats per character; the time is of the processor, growth and checkpoints included. With
`--ladder` the sizes of the training-tools guide are trained on `--data`, for a GPU.

    python -m benchmarks.growth [adamw|muon …] [--steps N] [--seeds N] [--page FILE]
    python -m benchmarks.growth --ladder 100m,500m,1b --data DIR --steps 50000 [--seeds N]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import Result, Row
from benchmarks.study import OPTIMIZERS, TITLES, Program, Study, Trained, train, trials
from benchmarks.trials import Settings

SHAPE: dict[str, Any] = {"model.num_layers": 8, "optim.decay_start": 0.7}
GROWN = 0.6
#: The stages of each arm; the other arms are trained from scratch.
LATE: list[dict[str, Any]] = [{"until": GROWN, "num_layers": 2}]
STAGES: list[dict[str, Any]] = [
    {"until": GROWN / 2, "name": "first", "hidden_size": 64, "num_heads": 2, "num_layers": 2},
    {"until": GROWN, "name": "second", "hidden_size": 96, "num_heads": 3, "num_layers": 4},
]
_COMPARED = (
    ("late growth", "scratch"),
    ("late growth", "scratch, equal FLOPs"),
    ("late growth", "scratch, equal time"),
    ("stages", "scratch"),
    ("late, stacked", "late growth"),
)


def measure(
    optimizer: str, train_alone: Callable[[Settings], Trained], steps: int, seeds: int
) -> Result:
    """All arms with an optimizer."""
    base = {**SHAPE, **OPTIMIZERS[optimizer], "train.max_steps": steps}
    study = Study(train_alone, seeds)
    rates = trials(optimizer)
    own = study.arm("scratch", base, rates)
    late = study.arm("late growth", {**base, "growth.stages": LATE}, rates)
    study.arm("stages", {**base, "growth.stages": STAGES}, rates)
    stacked = {**base, "growth.stages": LATE, "growth.method": "stack"}
    study.arm("late, stacked", stacked, [late])
    equal = {
        figure: round(steps * study.mean("late growth", figure) / study.mean("scratch", figure))
        for figure in ("flops", "cpu")
    }
    study.arm("scratch, equal FLOPs", {**base, "train.max_steps": equal["flops"]}, [own])
    study.arm("scratch, equal time", {**base, "train.max_steps": equal["cpu"]}, [own])
    for name, other in _COMPARED:
        study.compare(name, other)
    notes = [
        f"{steps} steps, {seeds} seeds.",
        f"Equal FLOPs are {equal['flops']} steps, equal time {equal['cpu']}.",
    ]
    return Result(_rows(study), [], [*notes, *study.notes])


def _rows(study: Study[Trained]) -> list[Row]:
    rows: list[Row] = []
    for name in study.found:
        rows.append(Row(f"{name}: loss", study.mean(name, "loss"), "nats/char"))
        for what, figure, unit, scale in (
            ("time", "cpu", "s of CPU", 1.0),
            ("arithmetic", "flops", "TFLOP", 1e-12),
        ):
            value, peer = study.mean(name, figure), study.mean("scratch", figure)
            rows.append(Row(f"{name}: {what}", value * scale, unit, "scratch", value / peer))
    return rows


def commands(ladder: Sequence[str], data: Path, steps: int, seeds: int) -> list[list[str]]:
    """What trains the ladder by stages and by late growth, and its last size from scratch."""
    ways = [["--start", ladder[0], "--end", ladder[-1], "--recipe", r] for r in ("stages", "late")]
    ways.append(["--start", ladder[-1]])
    return [
        [sys.executable, "-m", "trainer", "train", *way, "--data-path", str(data),
         "--steps", str(steps), "--seed", str(seed), "--name", f"growth-{number}"]
        for seed in range(1, seeds + 1)
        for number, way in enumerate(ways)
    ]  # fmt: skip


PROGRAM = Program(
    "growth",
    __doc__,
    {name: f"Growing a model, with {TITLES[name]}" for name in OPTIMIZERS},
    measure,
    train,
    Trained,
    steps=240,
    seeds=3,
)


def main() -> int:
    """Run studies, or the ladder, or be one training."""
    parser = PROGRAM.parser()
    parser.add_argument("--ladder", metavar="SIZE,…", help="for a GPU: 100m,500m,1b")
    parser.add_argument("--data", type=Path, help="what prepare-data wrote, for --ladder")
    options = parser.parse_args()
    if not options.ladder:
        return PROGRAM.main(parser, options)
    if options.data is None:
        parser.error("--ladder needs --data, the folder that prepare-data wrote")
    every = commands(options.ladder.split(","), options.data, options.steps, options.seeds)
    return max(subprocess.run(command, check=False).returncode for command in every)


if __name__ == "__main__":
    sys.exit(main())
