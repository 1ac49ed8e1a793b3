"""Ablations of optimizers: the same data, tokens and seeds for every arm of a study.

Tiny Shakespeare as characters, a Llama shape of 0.8M parameters, one thread. Each arm tunes its
learning rate with the same number of trials on a seed of its own, and is then trained with other
seeds. The loss is that of the whole last tenth of the text, in nats per character; the time is of
the processor, without evaluation. The lines under the table have the mean of the paired
differences from the first arm, and in how many of the seeds an arm is better.

    python -m benchmarks.optimizer_ablations [STUDY …] [--steps N] [--seeds N] [--page FILE]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import study
from benchmarks.record import Result, Row
from benchmarks.shakespeare import prepare, validation_loss
from benchmarks.trials import Settings

SHAPE = {**study.SHAPE, "model.num_layers": 4, "optim.decay_start": 0.4}


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: its settings, and the learning rates it may choose from."""

    name: str
    settings: Settings
    trials: list[Settings] = field(default_factory=list)


def _rates(*rates: float, **others: float) -> list[Settings]:
    """Trials of a peak learning rate, and of a second one in proportion to it."""
    more = {f"optim.{key}": factor for key, factor in others.items()}
    return [
        {"optim.learning_rate": rate, **{key: rate * factor for key, factor in more.items()}}
        for rate in rates
    ]


_MUON = {"optim.name": "muon", "optim.muon_scale": "match_rms_adamw"}
_CHOSEN = {**_MUON, "optim.learning_rate": 0.007, "optim.rest_learning_rate": 0.02}

STUDIES: dict[str, tuple[str, list[Arm]]] = {
    "optimizers": (
        "Optimizers",
        [
            Arm("AdamW", {"optim.name": "adamw"}, _rates(0.003, 0.006, 0.012)),
            Arm("Muon and AdamW", _MUON, _rates(0.0035, 0.007, 0.014, rest_learning_rate=2.0)),
            Arm(
                "Muon and Lion",
                {**_MUON, "optim.name": "muon+lion"},
                _rates(0.0035, 0.007, 0.014, rest_learning_rate=0.2),
            ),
            Arm("Lion", {"optim.name": "lion"}, _rates(0.0003, 0.0006, 0.0012)),
        ],
    ),
    "decay": (
        "Where and how the decay begins",
        [
            Arm(
                f"{100 * (1 - start):.0f} % {shape}",
                {**_CHOSEN, "optim.decay_start": start, "optim.decay_shape": shape},
            )
            for start, shape in (
                (0.8, "cosine"),
                (0.8, "linear"),
                (0.4, "cosine"),
                (0.4, "linear"),
                (0.4, "sqrt"),
                (0.05, "linear"),
            )
        ],
    ),
    "muon": (
        "Variants of Muon",
        [
            Arm("five quintic steps", _CHOSEN),
            Arm("three quintic steps", {**_CHOSEN, "optim.muon_steps": 3}),
            Arm("five of Polar Express", {**_CHOSEN, "optim.muon_coefficients": "polar_express"}),
        ],
    ),
}


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    loss: float
    cpu: float


def train(settings: Settings, text: Path) -> Trained:
    """Train in this process, without records or checkpoints."""
    import torch

    from trainer.config.resolve import resolve
    from trainer.loop.micro_batch import MicroBatch
    from trainer.loop.plan import plan
    from trainer.loop.session import build
    from trainer.loop.step import train_step

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(text, Path(folder))
        given = {"data.path": str(data.train), "model.vocab_size": data.vocab_size}
        session = build(plan(resolve({**SHAPE, **given, **settings})))
        micro_batch = MicroBatch(session.config.train.batch_size)
        started = time.process_time()
        while session.progress.step < session.max_steps:
            train_step(session, micro_batch)
        cpu = time.process_time() - started
        model = session.model.eval()
        loss = validation_loss(data.validation, lambda ids, targets: model(ids, targets).total)
        return Trained(loss, cpu)


def measure(
    name: str, train_alone: Callable[[Settings], Trained], steps: int, seeds: int
) -> Result:
    """All arms of a study."""
    _, arms = STUDIES[name]
    made = study.Study(train_alone, seeds)
    rows: list[Row] = []
    first = arms[0].name
    for arm in arms:
        made.arm(arm.name, {**arm.settings, "train.max_steps": steps}, arm.trials or [{}])
        rows.append(Row(f"{arm.name}: loss", made.mean(arm.name, "loss"), "nats/char"))
        cpu = made.mean(arm.name, "cpu")
        peer = made.mean(first, "cpu")
        rows.append(Row(f"{arm.name}: time", cpu, "s of CPU", first, cpu / peer))
        if arm.name != first:
            made.compare(arm.name, first)
    return Result(rows, [], [f"{steps} steps, {seeds} seeds.", *made.notes])


PROGRAM = study.Program(
    "optimizer_ablations",
    __doc__,
    {name: title for name, (title, _) in STUDIES.items()},
    measure,
    train,
    Trained,
    steps=200,
    seeds=3,
)


def main() -> int:
    """Run studies, or be one training."""
    parser = PROGRAM.parser()
    return PROGRAM.main(parser, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
