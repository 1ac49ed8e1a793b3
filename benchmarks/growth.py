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

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.experiments import ROOT, run
from benchmarks.record import Result, Row
from benchmarks.shakespeare import SEQ_LEN, TEXT, prepare, validation_loss
from benchmarks.training_run import open_run
from benchmarks.trials import Settings, apart, mean, repeat, tune

SHAPE: dict[str, Any] = {
    "model.hidden_size": 128,
    "model.num_layers": 8,
    "model.num_heads": 4,
    "model.max_seq_len": SEQ_LEN,
    "model.qk_norm": True,
    "train.seq_len": SEQ_LEN,
    "train.batch_size": 24,
    "train.threads": 1,
    "train.device": "cpu",
    "optim.warmup_steps": 10,
    "optim.schedule": "wsd",
    "optim.decay_start": 0.7,
    "optim.decay_shape": "linear",
    "optim.min_lr": 0.0,
}
RATES = {"adamw": (0.0015, 0.003, 0.006), "muon": (0.0035, 0.007, 0.014)}
OPTIMIZERS: dict[str, Settings] = {
    "adamw": {"optim.name": "adamw"},
    "muon": {"optim.name": "muon", "optim.muon_scale": "match_rms_adamw"},
}
GROWN = 0.6
#: The stages of each arm; the other arms are trained from scratch.
LATE: list[dict[str, Any]] = [{"until": GROWN, "num_layers": 2}]
STAGES: list[dict[str, Any]] = [
    {"until": GROWN / 2, "name": "first", "hidden_size": 64, "num_heads": 2, "num_layers": 2},
    {"until": GROWN, "name": "second", "hidden_size": 96, "num_heads": 3, "num_layers": 4},
]
TUNING_SEED = 0


@dataclass(frozen=True)
class Trained:
    """What a training came to: nats per character, seconds of the processor, FLOPs."""

    loss: float
    cpu: float
    flops: float


def train(settings: Settings, text: Path) -> Trained:
    """Train in this process, in a run directory that is thrown away."""
    import torch

    from trainer.loop.training import Training

    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = prepare(text, folder)
        given = {"data.path": str(data.train), "model.vocab_size": data.vocab_size}
        console = stack.enter_context((folder / "console").open("w"))
        stack.enter_context(contextlib.redirect_stdout(console))
        (folder / "runs").mkdir()
        session, writer = open_run({**SHAPE, **given, **settings}, folder / "runs")
        began = time.process_time()
        with writer:
            Training(session, writer).run()
        cpu = time.process_time() - began
        model = session.model.eval()
        loss = validation_loss(data.validation, lambda ids, targets: model(ids, targets).total)
        return Trained(loss, cpu, flops(session))


def flops(session: Any) -> float:
    """The training FLOPs of all steps, stage by stage."""
    from trainer.model.estimates import flops_per_token

    total, first = 0.0, 0
    for stage in session.plan.stages:
        last = session.max_steps if stage.last_step is None else stage.last_step
        steps = last - first
        per_token = flops_per_token(stage.model, session.config.seq_len)
        total += steps * session.config.tokens_per_step * per_token
        first = last
    return total


def train_alone(settings: Settings, text: Path) -> Trained:
    """The same in a process of its own, so that no arm warms another's caches."""
    command = [sys.executable, "-m", "benchmarks.growth", "--text", str(text)]
    command += ["--train", json.dumps(dict(settings))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Trained(**json.loads(done.stdout.splitlines()[-1]))


def measure(optimizer: str, text: Path, steps: int, seeds: int) -> Result:
    """All arms with an optimizer."""
    base = {**OPTIMIZERS[optimizer], "train.max_steps": steps}
    notes = [f"{steps} steps, {seeds} seeds."]
    found: dict[str, list[Trained]] = {}

    def arm(name: str, settings: Settings, rates: Sequence[Settings]) -> Settings:
        """Tune the arm, and train it with every seed; returns its rate."""

        def trained(more: Settings) -> Trained:
            return train_alone({**base, **settings, **more}, text)

        chosen = rates[0]
        if len(rates) > 1:
            tuned = tune(rates, TUNING_SEED, trained)
            chosen = tuned.settings
            tried = ", ".join(f"{t['optim.learning_rate']:g}: {o.loss:.3f}" for t, o in tuned.tried)
            notes.append(f"{name} chose the rate {chosen['optim.learning_rate']:g} ({tried}).")
        found[name] = repeat(chosen, range(1, seeds + 1), trained)
        return chosen

    trials = [rate_of(optimizer, rate) for rate in RATES[optimizer]]
    own = arm("scratch", {}, trials)
    late = arm("late growth", {"growth.stages": LATE}, trials)
    arm("stages", {"growth.stages": STAGES}, trials)
    arm("late, stacked", {"growth.stages": LATE, "growth.method": "stack"}, [late])
    whole, grown = found["scratch"], found["late growth"]
    arithmetic = round(steps * grown[0].flops / whole[0].flops)
    seconds = round(steps * mean([g.cpu for g in grown]) / mean([w.cpu for w in whole]))
    arm("scratch, equal FLOPs", {"train.max_steps": arithmetic}, [own])
    arm("scratch, equal time", {"train.max_steps": seconds}, [own])
    notes.append(f"Equal FLOPs are {arithmetic} steps, equal time {seconds}.")
    return Result(_rows(found), [], [*notes, *_compared(found)])


def rate_of(optimizer: str, rate: float) -> dict[str, float]:
    """A peak learning rate; AdamW beside Muon has twice that."""
    beside = {"optim.rest_learning_rate": 2 * rate} if optimizer == "muon" else {}
    return {"optim.learning_rate": rate, **beside}


def _rows(found: Mapping[str, Sequence[Trained]]) -> list[Row]:
    rows: list[Row] = []
    first = next(iter(found.values()))
    for name, done in found.items():
        rows.append(Row(f"{name}: loss", mean([one.loss for one in done]), "nats/char"))
        for what, unit, scale in (("cpu", "s of CPU", 1.0), ("flops", "TFLOP", 1e-12)):
            value, peer = (mean([getattr(one, what) for one in of]) for of in (done, first))
            title = f"{name}: {'time' if what == 'cpu' else 'arithmetic'}"
            rows.append(Row(title, value * scale, unit, "scratch", value / peer))
    return rows


def _compared(found: Mapping[str, Sequence[Trained]]) -> list[str]:
    notes = []
    for name, other in (
        ("late growth", "scratch"),
        ("late growth", "scratch, equal FLOPs"),
        ("late growth", "scratch, equal time"),
        ("stages", "scratch"),
        ("late, stacked", "late growth"),
    ):
        pairs = apart(found[name], found[other])
        better = sum(pair < 0 for pair in pairs)
        notes.append(f"{name} against {other}: {mean(pairs):+.4f}, better in {better}.")
    return notes


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


def main() -> int:
    """Run studies, or the ladder, or be one training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("optimizers", nargs="*", metavar="OPTIMIZER", help=", ".join(OPTIMIZERS))
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--ladder", metavar="SIZE,…", help="for a GPU: 100m,500m,1b")
    parser.add_argument("--data", type=Path, help="what prepare-data wrote, for --ladder")
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(vars(train(json.loads(options.train), options.text))))
        return 0
    if options.ladder:
        if options.data is None:
            parser.error("--ladder needs --data, the folder that prepare-data wrote")
        every = commands(options.ladder.split(","), options.data, options.steps, options.seeds)
        return max(subprocess.run(command, check=False).returncode for command in every)
    unknown = [name for name in options.optimizers if name not in OPTIMIZERS]
    if unknown:
        parser.error(f"no optimizer {unknown[0]!r}; there are {', '.join(OPTIMIZERS)}")
    if not options.text.is_file():
        parser.error(f"{options.text} is absent; give tinyshakespeare.txt with --text")
    for name in options.optimizers or OPTIMIZERS:
        found = partial(measure, name, options.text, options.steps, options.seeds)
        title = f"Growing a model, with {'AdamW' if name == 'adamw' else 'Muon'}"
        run(title, __doc__, f"growth {name}", found, options.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
