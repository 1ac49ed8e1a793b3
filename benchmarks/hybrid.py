"""Predicted steps against plain training: the same backward passes, the same time.

Tiny Shakespeare as characters, a Llama shape of 0.8M parameters, one thread, the real loop. Plain
training and every predictor tune their learning rate with the same number of trials on a seed of
its own. All make as many backward passes, so runs that predict have more steps; `plain, equal time`
has as many steps as take the processor time of the first of them, and `skip only` is plain training
at that one's rate. The loss is that of the whole last tenth of the text, in nats per character,
after the decay.

    python -m benchmarks.hybrid [adamw|muon …] [--steps N] [--seeds N] [--page FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from benchmarks.record import Result, Row
from benchmarks.study import OPTIMIZERS, TITLES, Program, Study, Trained, train, trials
from benchmarks.trials import Settings

SHAPE: dict[str, Any] = {"model.num_layers": 4, "optim.decay_start": 0.7}
PREDICTORS = ("outer_nesterov", "ema_nesterov", "linear", "regression")
#: Of all steps, about so many are predicted with the defaults of the section `hybrid`.
_PREDICTED = 0.9 / 20


def measure(
    optimizer: str, train_alone: Callable[[Settings], Trained], steps: int, seeds: int
) -> Result:
    """All arms with an optimizer; `steps` are the backward passes of each."""
    base = {**SHAPE, **OPTIMIZERS[optimizer], "train.max_steps": steps}
    study = Study(train_alone, seeds)
    rates = trials(optimizer)
    plain = study.arm("plain", base, rates)
    longer = {**base, "train.max_steps": steps + round(steps * _PREDICTED)}
    chosen = [study.arm(name, {**longer, "hybrid.predictor": name}, rates) for name in PREDICTORS]
    seconds = study.mean(PREDICTORS[0], "cpu") / study.mean("plain", "cpu")
    study.arm("plain, equal time", {**base, "train.max_steps": round(steps * seconds)}, [plain])
    study.arm("skip only", base, [chosen[0]])
    for name in list(study.found)[1:]:
        study.compare(name, "plain")
    return Result(_rows(study), [], [f"{steps} backward passes, {seeds} seeds.", *study.notes])


def _rows(study: Study[Trained]) -> list[Row]:
    rows: list[Row] = []
    for name in study.found:
        cpu, peer = study.mean(name, "cpu"), study.mean("plain", "cpu")
        rows.append(Row(f"{name}: loss", study.mean(name, "loss"), "nats/char"))
        rows.append(Row(f"{name}: time", cpu, "s of CPU", "plain", cpu / peer))
        rows.append(Row(f"{name}: backward passes", study.mean(name, "backward"), ""))
        if study.mean(name, "predicted"):
            rows.append(Row(f"{name}: predicted", study.mean(name, "predicted"), "steps"))
            rows.append(Row(f"{name}: taken back", study.mean(name, "rolled_back"), "predictions"))
    return rows


PROGRAM = Program(
    "hybrid",
    __doc__,
    {name: f"Predicted steps, with {TITLES[name]}" for name in OPTIMIZERS},
    measure,
    train,
    Trained,
    steps=240,
    seeds=5,
)


def main() -> int:
    """Run studies, or be one training."""
    parser = PROGRAM.parser()
    return PROGRAM.main(parser, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
