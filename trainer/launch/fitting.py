"""How large a model, and how many steps of it, a machine can train in a given time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.config.schema import Config

MOST_STEPS = 8  # per measurement, after one that warms up
MOST_SECONDS = 4.0  # per measurement: a slow machine makes fewer steps
#: Of the time given, the share that goes to steps; evaluations, samples and checkpoints take the
#: rest, and so does a machine that becomes busier than it was when it was measured.
SHARE = 0.6


@dataclass(frozen=True)
class Size:
    """A model: its changes to the configuration, the steps it is worth, and the least it needs."""

    name: str
    steps: int
    least: int
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """What was chosen: a size, a number of steps, and the seconds one step took."""

    size: Size
    steps: int
    step_seconds: float


def fit(sizes: Sequence[Size], seconds: float, measure: Callable[[Size], float]) -> Fit:
    """Choose the first of `sizes` that makes its least steps within `seconds`.

    `measure` returns the seconds of one step. The last size is taken in any case, and makes as many
    steps as there is time for, ten at least.
    """
    for size in sizes:
        step_seconds = measure(size)
        steps = min(size.steps, int(SHARE * seconds / step_seconds))
        if steps >= size.least or size is sizes[-1]:
            return Fit(size, max(10, steps), step_seconds)
    raise ValueError("there is no size to choose from")


def measure_step(config: Config) -> float:
    """The mean time in seconds of a few optimizer steps, made with a model that is thrown away."""
    from trainer.loop.micro_batch import MicroBatch
    from trainer.loop.plan import plan
    from trainer.loop.session import build
    from trainer.loop.step import train_step

    session, micro_batch = build(plan(config)), MicroBatch(config.train.batch_size)
    warm_up = train_step(session, micro_batch).seconds
    seconds: list[float] = []
    while len(seconds) < MOST_STEPS and warm_up + sum(seconds) < MOST_SECONDS:
        seconds.append(train_step(session, micro_batch).seconds)
    return sum(seconds) / len(seconds) if seconds else warm_up
