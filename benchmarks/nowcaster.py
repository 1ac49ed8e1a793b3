"""What a learned predictor of weights could give, on recorded trainings.

Tiny Shakespeare as characters, a Llama shape of 0.1M parameters, one thread, the real loop. The
weights of every fifth step are recorded. From the four moves of the last 20 steps the move of the
next 10 is predicted, every 20 steps of the stable learning rate:

    linear      half of the last 20 steps, as `hybrid.predictor=linear`
    learned     a coefficient for each of the four moves and each tensor, by least squares on a
                training with another seed
    online      the same, learnt from the 10 steps just made
    best        the same, learnt from the very steps that it predicts: no such predictor is closer

The error is the distance between predicted and reached weights as a share of the distance that the
real steps went, so 1 is the error of predicting nothing. The loss is that of held-out text with the
predicted weights, less that before the prediction, in nats per character.

    python -m benchmarks.nowcaster [adamw|muon …] [--steps N] [--seeds N] [--page FILE]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.experiments import run
from benchmarks.record import Result, Row
from benchmarks.shakespeare import TEXT, prepare, validation_loss
from benchmarks.study import OPTIMIZERS, SHAPE, TITLES, trials
from benchmarks.training_run import open_run
from benchmarks.trials import mean

if TYPE_CHECKING:
    from torch import Tensor

EVERY = 5  # steps between two recordings
PAST = 4  # moves that a prediction is made from
AHEAD = 2  # moves that it predicts
_SMALL: dict[str, Any] = {
    "model.hidden_size": 64,
    "model.num_heads": 2,
    "model.num_layers": 2,
    "train.batch_size": 16,
    "optim.decay_start": 0.9,
}
_RIDGE = 1e-3  # of the mean square of the moves
_HELD_OUT = 40_000  # characters

Weights = Mapping[str, "Tensor"]
Learnt = Mapping[str, "Tensor"]


class Recorded:
    """A training's weights at every fifth step, and the loss with any weights."""

    def __init__(self, settings: Mapping[str, Any], text: Path, folder: Path) -> None:
        import torch

        from trainer.loop.hooks import Hooks
        from trainer.loop.training import Training

        torch.set_num_threads(1)
        self.weights: list[dict[str, Tensor]] = []
        data = prepare(text, folder)
        data.validation.write_bytes(data.validation.read_bytes()[: 4 * _HELD_OUT])
        self._held_out = data.validation
        given = {"data.path": str(data.train), "model.vocab_size": data.vocab_size}

        def look(training: Training) -> None:
            if training.session.progress.step % EVERY == 0:
                parameters = training.session.parameters
                self.weights.append({n: p.detach().clone() for n, p in parameters.items()})

        (folder / "runs").mkdir()
        session, writer = open_run({**SHAPE, **_SMALL, **given, **settings}, folder / "runs")
        with (folder / "console").open("w") as console, redirect_stdout(console), writer:
            Training(session, writer, hooks=Hooks(before_step=look)).run()
        self._session = session

    def loss(self, weights: Weights) -> float:
        """Nats per character of held-out text with these weights."""
        import torch

        model = self._session.model.eval()
        with torch.no_grad():
            for name, parameter in self._session.parameters.items():
                parameter.copy_(weights[name])
        return validation_loss(self._held_out, lambda ids, targets: model(ids, targets).total)

    def moves(self, at: int, name: str) -> list[Tensor]:
        """The moves of a tensor before recording `at`, the oldest first."""
        past = [self.weights[i][name] for i in range(at - PAST, at + 1)]
        return [after - before for before, after in pairwise(past)]

    def ahead(self, at: int, name: str) -> Tensor:
        """How the tensor moves after recording `at`."""
        return self.weights[at + AHEAD][name] - self.weights[at][name]


def learn(recorded: Recorded, places: Sequence[int]) -> Learnt:
    """The coefficients (PAST,) of every tensor that fit best at these recordings."""
    import torch

    found = {}
    for name in recorded.weights[0]:
        square, right = torch.zeros(PAST, PAST), torch.zeros(PAST)
        for at in places:
            moves = torch.stack([move.flatten() for move in recorded.moves(at, name)])
            square += moves @ moves.T
            right += moves @ recorded.ahead(at, name).flatten()
        square += _RIDGE * square.diagonal().mean() * torch.eye(PAST)
        found[name] = torch.linalg.solve(square, right)
    return found


def measure(optimizer: str, text: Path, steps: int, seeds: int) -> Result:
    """All predictors on trainings with that optimizer."""
    import torch

    settings = {**OPTIMIZERS[optimizer], **trials(optimizer)[1], "train.max_steps": steps}
    first, last = PAST + AHEAD + 2, int(0.9 * steps) // EVERY - AHEAD
    places = range(first, last, PAST)
    linear = {"linear": torch.full((PAST,), AHEAD / PAST)}
    errors: dict[str, list[float]] = {}
    changes: dict[str, list[float]] = {}
    learnt: Learnt = {}
    for seed in range(seeds + 1):
        with tempfile.TemporaryDirectory() as folder:
            one = Recorded({**settings, "train.seed": seed}, text, Path(folder))
            if not seed:
                learnt = learn(one, places)
                continue
            for at in places:
                start = one.loss(one.weights[at])
                reached = one.loss(one.weights[at + AHEAD])
                changes.setdefault("real steps", []).append(reached - start)
                ways: dict[str, Callable[[str], Tensor]] = {
                    "linear": lambda name: linear["linear"],
                    "learned": learnt.__getitem__,
                    "online": learn(one, [at - AHEAD]).__getitem__,
                    "best": learn(one, [at]).__getitem__,
                }
                for way, coefficients in ways.items():
                    apart, went, weights = 0.0, 0.0, {}
                    for name, now in one.weights[at].items():
                        moves = torch.stack(one.moves(at, name))
                        predicted = torch.tensordot(coefficients(name), moves, dims=1)
                        real = one.ahead(at, name)
                        apart += float((predicted - real).square().sum())
                        went += float(real.square().sum())
                        weights[name] = now + predicted
                    errors.setdefault(way, []).append((apart / went) ** 0.5)
                    changes.setdefault(way, []).append(one.loss(weights) - start)
    rows = [Row("real steps: change of the loss", mean(changes["real steps"]), "nats/char")]
    for way, found in errors.items():
        rows.append(Row(f"{way}: error", mean(found), ""))
        rows.append(Row(f"{way}: change of the loss", mean(changes[way]), "nats/char"))
    note = f"{steps} steps, {seeds} seeds, {len(places)} predictions each."
    return Result(rows, [], [note])


def main() -> int:
    """Measure, and write the sections of a page if one is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(OPTIMIZERS))
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    unknown = [name for name in options.studies if name not in OPTIMIZERS]
    if unknown:
        parser.error(f"no study {unknown[0]!r}; there are {', '.join(OPTIMIZERS)}")
    for name in options.studies or OPTIMIZERS:
        run(
            f"A learned predictor of weights, with {TITLES[name]}",
            __doc__ or "",
            f"nowcaster {name}",
            lambda name=name: measure(name, options.text, options.steps, options.seeds),  # type: ignore[misc]
            options.page,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
