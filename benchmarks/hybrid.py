"""Predicted steps against plain training: the same backward passes, the same time.

Tiny Shakespeare as characters, a Llama shape of 0.8M parameters, one thread, the real loop. Plain
training and every predictor tune their learning rate with the same number of trials on a seed of
its own. `plain, equal backward` makes as many backward passes as the runs that predict, `plain,
equal time` as many steps as take their processor time, and `skip only` is plain training with as
many steps fewer as are predicted, at the predictor's rate. The loss is that of the whole last tenth
of the text, in nats per character, after the decay.

    python -m benchmarks.hybrid [adamw|muon …] [--steps N] [--seeds N] [--page FILE]
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
from benchmarks.growth import OPTIMIZERS, RATES, SHAPE, rate_of
from benchmarks.record import Result, Row
from benchmarks.shakespeare import TEXT, prepare, validation_loss
from benchmarks.training_run import open_run
from benchmarks.trials import Settings, apart, mean, repeat, tune

LAYERS = 4
PREDICTORS = ("outer_nesterov", "ema_nesterov", "linear", "regression")
TUNING_SEED = 0


@dataclass(frozen=True)
class Trained:
    """What a training came to: nats per character, seconds of the processor, backward passes,
    predictions, and how many of them were taken back."""

    loss: float
    cpu: float
    backward: int
    predicted: int
    rolled_back: int


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
        shape = {**SHAPE, "model.num_layers": LAYERS}
        session, writer = open_run({**shape, **given, **settings}, folder / "runs")
        began = time.process_time()
        with writer:
            Training(session, writer).run()
        cpu = time.process_time() - began
        model = session.model.eval()
        loss = validation_loss(data.validation, lambda ids, targets: model(ids, targets).total)
        cycle: Mapping[str, Any] = session.progress.hybrid
        return Trained(
            loss,
            cpu,
            session.progress.total_backward,
            cycle.get("made", 0),
            cycle.get("rolled_back", 0),
        )


def train_alone(settings: Settings, text: Path) -> Trained:
    """The same in a process of its own, so that no arm warms another's caches."""
    command = [sys.executable, "-m", "benchmarks.hybrid", "--text", str(text)]
    command += ["--train", json.dumps(dict(settings))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return Trained(**json.loads(done.stdout.splitlines()[-1]))


def measure(optimizer: str, text: Path, steps: int, seeds: int) -> Result:
    """All arms with an optimizer; `steps` are the backward passes of each."""
    notes = [f"{steps} backward passes, {seeds} seeds."]
    found: dict[str, list[Trained]] = {}
    trials = [rate_of(optimizer, rate) for rate in RATES[optimizer]]

    def arm(name: str, settings: Settings, rates: Sequence[Settings]) -> Settings:
        """Tune the arm, and train it with every seed; returns its rate."""
        base = {**OPTIMIZERS[optimizer], "train.max_steps": steps, **settings}

        def trained(more: Settings) -> Trained:
            return train_alone({**base, **more}, text)

        chosen = rates[0]
        if len(rates) > 1:
            tuned = tune(rates, TUNING_SEED, trained)
            chosen = tuned.settings
            tried = ", ".join(f"{t['optim.learning_rate']:g}: {o.loss:.3f}" for t, o in tuned.tried)
            notes.append(f"{name} chose the rate {chosen['optim.learning_rate']:g} ({tried}).")
        found[name] = repeat(chosen, range(1, seeds + 1), trained)
        return chosen

    plain = arm("plain", {}, trials)
    for predictor in PREDICTORS:
        # As many steps more as are predicted, so that the backward passes are the same.
        more = round((steps * 0.9) / 20)
        settings = {"hybrid.predictor": predictor, "train.max_steps": steps + more}
        own = arm(predictor, settings, trials)
        done = found[predictor]
        if predictor != PREDICTORS[0]:
            continue
        seconds = round(steps * mean([d.cpu for d in done]) / mean([p.cpu for p in found["plain"]]))
        arm("plain, equal time", {"train.max_steps": seconds}, [plain])
        arm("skip only", {}, [own])
    return Result(_rows(found), [], [*notes, *_compared(found, seeds)])


def _rows(found: Mapping[str, Sequence[Trained]]) -> list[Row]:
    rows: list[Row] = []
    first = found["plain"]
    for name, done in found.items():
        rows.append(Row(f"{name}: loss", mean([one.loss for one in done]), "nats/char"))
        cpu, peer = (mean([one.cpu for one in of]) for of in (done, first))
        rows.append(Row(f"{name}: time", cpu, "s of CPU", "plain", cpu / peer))
        rows.append(Row(f"{name}: backward passes", mean([one.backward for one in done]), ""))
        if any(one.predicted for one in done):
            rows.append(Row(f"{name}: predicted", mean([one.predicted for one in done]), "steps"))
            taken = mean([one.rolled_back for one in done])
            rows.append(Row(f"{name}: taken back", taken, "predictions"))
    return rows


def _compared(found: Mapping[str, Sequence[Trained]], seeds: int) -> list[str]:
    notes = []
    for name in found:
        if name == "plain":
            continue
        pairs = apart(found[name], found["plain"])
        better = sum(pair < 0 for pair in pairs)
        notes.append(f"{name} against plain: {mean(pairs):+.4f}, better in {better} of {seeds}.")
    return notes


def main() -> int:
    """Run studies, or be one training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("optimizers", nargs="*", metavar="OPTIMIZER", help=", ".join(OPTIMIZERS))
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        print(json.dumps(vars(train(json.loads(options.train), options.text))))
        return 0
    unknown = [name for name in options.optimizers if name not in OPTIMIZERS]
    if unknown:
        parser.error(f"no optimizer {unknown[0]!r}; there are {', '.join(OPTIMIZERS)}")
    if not options.text.is_file():
        parser.error(f"{options.text} is absent; give tinyshakespeare.txt with --text")
    for name in options.optimizers or OPTIMIZERS:
        found = partial(measure, name, options.text, options.steps, options.seeds)
        title = f"Predicted steps, with {'AdamW' if name == 'adamw' else 'Muon'}"
        run(title, __doc__, f"hybrid {name}", found, options.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
