"""Ablations of optimizers: the same data, tokens and seeds for every arm of a study.

Tiny Shakespeare as characters, a Llama shape of 0.8M parameters, one thread. Each arm tunes its
learning rate with the same number of trials on a seed of its own, and is then trained with other
seeds. The loss is that of the whole last tenth of the text, in nats per character; the time is of
the processor, without evaluation. The lines under the table have the mean of the paired
differences from the first arm, and in how many of the seeds an arm is better.

    python -m benchmarks.optimizer_ablations [STUDY …] [--steps N] [--seeds N] [--page FILE]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.experiments import ROOT, run
from benchmarks.record import Result, Row
from benchmarks.shakespeare import SEQ_LEN, TEXT, prepare, validation_loss
from benchmarks.trials import Settings, apart, mean, repeat, tune

SHAPE = {
    "model.hidden_size": 128,
    "model.num_layers": 4,
    "model.num_heads": 4,
    "model.max_seq_len": SEQ_LEN,
    "model.qk_norm": True,
    "train.seq_len": SEQ_LEN,
    "train.batch_size": 24,
    "train.threads": 1,
    "train.device": "cpu",
    "optim.warmup_steps": 10,
    "optim.schedule": "wsd",
    "optim.decay_start": 0.4,
    "optim.decay_shape": "linear",
    "optim.min_lr": 0.0,
}
TUNING_SEED = 0


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


def train_alone(settings: Settings, text: Path) -> Trained:
    """The same in a process of its own, so that no arm warms another's caches."""
    command = [sys.executable, "-m", "benchmarks.optimizer_ablations", "--text", str(text)]
    command += ["--train", json.dumps(dict(settings))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Trained(**json.loads(done.stdout.splitlines()[-1]))


def measure(
    name: str,
    text: Path,
    steps: int,
    seeds: int,
    train_one: Callable[[Settings, Path], Trained] = train_alone,
) -> Result:
    """All arms of a study."""
    _, arms = STUDIES[name]
    rows: list[Row] = []
    notes: list[str] = [f"{steps} steps, {seeds} seeds."]
    first: list[Trained] = []
    for arm in arms:
        own: Settings = {**arm.settings, "train.max_steps": steps}

        def trained(more: Settings, base: Settings = own) -> Trained:
            return train_one({**base, **more}, text)

        chosen: Settings = {}
        if arm.trials:
            tuned = tune(arm.trials, TUNING_SEED, trained)
            chosen = tuned.settings
            told = ", ".join(
                f"{trial['optim.learning_rate']:g}: {one.loss:.3f}" for trial, one in tuned.tried
            )
            rate = chosen["optim.learning_rate"]
            notes.append(f"{arm.name} chose the rate {rate:g} ({told}).")
        done = repeat(chosen, range(1, seeds + 1), trained)
        first = first or done
        loss = mean([one.loss for one in done])
        rows.append(Row(f"{arm.name}: loss", loss, "nats/char"))
        cpu, peer = (mean([one.cpu for one in of]) for of in (done, first))
        rows.append(Row(f"{arm.name}: time", cpu, "s of CPU", arms[0].name, cpu / peer))
        if done is not first:
            pairs = apart(done, first)
            better = sum(pair < 0 for pair in pairs)
            notes.append(
                f"{arm.name} against {arms[0].name}: {mean(pairs):+.4f}, better in "
                f"{better} of {seeds}."
            )
    return Result(rows, [], notes)


def main() -> int:
    """Run studies, or be one training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(vars(train(json.loads(options.train), options.text))))
        return 0
    unknown = [name for name in options.studies if name not in STUDIES]
    if unknown:
        parser.error(f"no study {unknown[0]!r}; there are {', '.join(STUDIES)}")
    if not options.text.is_file():
        parser.error(f"{options.text} is absent; give tinyshakespeare.txt with --text")
    for name in options.studies or STUDIES:
        found = partial(measure, name, options.text, options.steps, options.seeds)
        run(STUDIES[name][0], __doc__, f"optimizer_ablations {name}", found, options.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
