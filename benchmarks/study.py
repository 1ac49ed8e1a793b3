"""Studies on Tiny Shakespeare: arms that tune alike, and trainings each in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchmarks.experiments import ROOT, run
from benchmarks.record import Result
from benchmarks.shakespeare import SEQ_LEN, TEXT, prepare, validation_loss
from benchmarks.training_run import open_run
from benchmarks.trials import HasLoss, Settings, apart, mean, repeat, tune

#: What all studies train, but for layers and schedule: a Llama shape on one thread.
SHAPE: dict[str, Any] = {
    "model.hidden_size": 128,
    "model.num_heads": 4,
    "model.max_seq_len": SEQ_LEN,
    "model.qk_norm": True,
    "train.seq_len": SEQ_LEN,
    "train.batch_size": 24,
    "train.threads": 1,
    "train.device": "cpu",
    "optim.warmup_steps": 10,
    "optim.schedule": "wsd",
    "optim.decay_shape": "linear",
    "optim.min_lr": 0.0,
}
OPTIMIZERS: dict[str, Settings] = {
    "adamw": {"optim.name": "adamw"},
    "muon": {"optim.name": "muon", "optim.muon_scale": "match_rms_adamw"},
}
TITLES = {"adamw": "AdamW", "muon": "Muon"}
_RATES = {"adamw": (0.0015, 0.003, 0.006), "muon": (0.0035, 0.007, 0.014)}
_TUNING_SEED = 0


@dataclass(frozen=True)
class Trained:
    """What a training by the whole loop came to: nats per character, seconds of the processor,
    FLOPs, backward passes, predicted steps, and how many of them were taken back."""

    loss: float
    cpu: float
    flops: float
    backward: int
    predicted: int
    rolled_back: int


def train(settings: Settings, text: Path) -> Trained:
    """Train by the whole loop in this process, in a run directory that is thrown away."""
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
        cycle: Mapping[str, Any] = session.progress.hybrid
        return Trained(
            loss,
            cpu,
            _flops(session),
            session.progress.total_backward,
            cycle.get("made", 0),
            cycle.get("rolled_back", 0),
        )


def _flops(session: Any) -> float:
    """The training FLOPs of all steps, stage by stage."""
    from trainer.model.estimates import flops_per_token

    total, first = 0.0, 0
    for stage in session.plan.stages:
        last = session.max_steps if stage.last_step is None else stage.last_step
        per_token = flops_per_token(stage.model, session.config.seq_len)
        total += (last - first) * session.config.tokens_per_step * per_token
        first = last
    return total


def trials(optimizer: str) -> list[Settings]:
    """The peak learning rates that an arm may choose from; AdamW beside Muon has twice Muon's."""
    return [
        {
            "optim.learning_rate": rate,
            **({"optim.rest_learning_rate": 2 * rate} if optimizer == "muon" else {}),
        }
        for rate in _RATES[optimizer]
    ]


One = TypeVar("One", bound=HasLoss)


class Study(Generic[One]):
    """Arms that are tuned on a seed of its own and then trained with `seeds` others."""

    def __init__(self, train: Callable[[Settings], One], seeds: int) -> None:
        self._train = train
        self._seeds = seeds
        self.found: dict[str, list[One]] = {}
        self.notes: list[str] = []

    def arm(self, name: str, settings: Settings, trials: Sequence[Settings] = ({},)) -> Settings:
        """Tune the arm if it has several trials, and train it with all seeds; returns its trial."""

        def trained(more: Settings) -> One:
            return self._train({**settings, **more})

        chosen = trials[0]
        if len(trials) > 1:
            tuned = tune(trials, _TUNING_SEED, trained)
            chosen = tuned.settings
            tried = ", ".join(f"{t['optim.learning_rate']:g}: {o.loss:.3f}" for t, o in tuned.tried)
            rate = chosen["optim.learning_rate"]
            self.notes.append(f"{name} chose the rate {rate:g} ({tried}).")
        self.found[name] = repeat(chosen, range(1, self._seeds + 1), trained)
        return chosen

    def compare(self, name: str, other: str) -> None:
        """Note how an arm differs from another, seed by seed."""
        pairs = apart(self.found[name], self.found[other])
        better = sum(pair < 0 for pair in pairs)
        self.notes.append(
            f"{name} against {other}: {mean(pairs):+.4f}, better in {better} of {self._seeds}."
        )

    def mean(self, name: str, figure: str) -> float:
        """The mean of a figure of an arm."""
        return mean([getattr(one, figure) for one in self.found[name]])


@dataclass(frozen=True)
class Program(Generic[One]):
    """The command line of studies: `measure(name, train, steps, seeds)` makes one of `titles`."""

    module: str
    doc: str
    titles: Mapping[str, str]
    measure: Callable[[str, Callable[[Settings], One], int, int], Result]
    train: Callable[[Settings, Path], One]
    result: type[One]
    steps: int
    seeds: int

    def parser(self) -> argparse.ArgumentParser:
        """Its options."""
        parser = argparse.ArgumentParser(description=self.doc.splitlines()[0])
        parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(self.titles))
        parser.add_argument("--text", type=Path, default=TEXT)
        parser.add_argument("--steps", type=int, default=self.steps)
        parser.add_argument("--seeds", type=int, default=self.seeds)
        parser.add_argument("--page", type=Path)
        parser.add_argument("--train", help=argparse.SUPPRESS)
        return parser

    def main(self, parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
        """Run studies, or be one training."""
        if options.train:
            print(json.dumps(asdict(self.train(json.loads(options.train), options.text))))  # type: ignore[call-overload]
            return 0
        unknown = [name for name in options.studies if name not in self.titles]
        if unknown:
            parser.error(f"no study {unknown[0]!r}; there are {', '.join(self.titles)}")
        if not options.text.is_file():
            parser.error(f"{options.text} is absent; give tinyshakespeare.txt with --text")
        alone = partial(self._alone, options.text)
        for name in options.studies or self.titles:
            found = partial(self.measure, name, alone, options.steps, options.seeds)
            run(self.titles[name], self.doc, f"{self.module} {name}", found, options.page)
        return 0

    def _alone(self, text: Path, settings: Settings) -> One:
        """A training in a process of its own, so that no arm warms another's caches."""
        command = [sys.executable, "-m", f"benchmarks.{self.module}", "--text", str(text)]
        command += ["--train", json.dumps(dict(settings))]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return self.result(**json.loads(done.stdout.splitlines()[-1]))
