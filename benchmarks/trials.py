"""Trials of settings with seeds, by the plan and the statistics of `trainer sweep`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from shared.library.groups import Result, paired_differences, rank, setting_of, summarize
from trainer.sweep.axes import Values
from trainer.sweep.plan import grid, paired

Settings = Mapping[str, Any]


class HasLoss(Protocol):
    """What a training came to."""

    @property
    def loss(self) -> float:
        """Nats per token."""


Trained = TypeVar("Trained", bound=HasLoss)


@dataclass(frozen=True)
class Tuned(Generic[Trained]):
    """The points that were tried, each with what it came to, and the best of them."""

    tried: list[tuple[Settings, Trained]]
    settings: Settings
    result: Trained


def points_of(key: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    """A point for each value."""
    return grid([Values(key, tuple(values))])


def tune(
    points: Sequence[Settings], seed: int, train: Callable[[Settings], Trained]
) -> Tuned[Trained]:
    """Train every point with the same seed; the lowest loss is chosen, and never NaN."""
    runs = paired([dict(point) for point in points], [seed])
    done = [train(run.swept) for run in runs]
    results = [
        Result(str(n), setting_of(run.swept), one.loss, completed=True)
        for n, (run, one) in enumerate(zip(runs, done, strict=True))
    ]
    best = int(rank(results)[0].results[0].run_id)
    tried = [(run.settings, one) for run, one in zip(runs, done, strict=True)]
    return Tuned(tried, runs[best].settings, done[best])


def repeat(
    settings: Settings, seeds: Sequence[int], train: Callable[[Settings], Trained]
) -> list[Trained]:
    """Train the same settings with every seed."""
    return [train(run.swept) for run in paired([dict(settings)], seeds)]


def mean(values: Sequence[float]) -> float:
    """The mean; NaN where one of them is not finite, or there is none."""
    found = summarize(values).mean
    return float("nan") if found is None else found


def apart(ours: Sequence[HasLoss], theirs: Sequence[HasLoss]) -> list[float]:
    """How far the losses of `ours` lie above those of `theirs`, seed by seed."""
    return paired_differences([one.loss for one in ours], [one.loss for one in theirs])
