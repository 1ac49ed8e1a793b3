"""Runs of one group, such as a sweep: which setting is best, and how far its seeds lie apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.json_text import encode_json
from shared.run.numbers import REWARDS

SEED = "train.seed"
VAL_LOSS, LOSS = "val_loss", "loss"
REWARD = "reward"  # the best: more is better


@dataclass(frozen=True)
class Summary:
    """Values of several seeds. `spread` is their sample standard deviation; None of one value.

    `mean` is None of no value.
    """

    count: int = 0
    mean: float | None = None
    spread: float | None = None


def summarize(values: Sequence[float]) -> Summary:
    """The mean and the spread of `values`; both NaN where one of them is not finite."""
    if not values:
        return Summary()
    if not all(map(math.isfinite, values)):
        return Summary(len(values), math.nan, math.nan if len(values) > 1 else None)
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Summary(1, mean)
    square = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Summary(len(values), mean, math.sqrt(square))


def paired_differences(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """How far `ours` lie above `theirs`, seed by seed. Raises ValueError for other numbers."""
    return [one - other for one, other in zip(ours, theirs, strict=True)]


@dataclass(frozen=True)
class Member:
    """A run of a group: its `setting` (see `setting_of`), its newest losses.

    `completed`: they are the final ones. `reward` is its best, if its answers are rewarded.
    """

    run_id: str
    setting: str
    val_loss: float | None = None
    loss: float | None = None
    completed: bool = False
    reward: float | None = None


@dataclass(frozen=True)
class Result:
    """A run of a group with the loss, or the reward, that is compared; see `Member`."""

    run_id: str
    setting: str
    loss: float | None = None
    completed: bool = False


@dataclass(frozen=True)
class Ranked:
    """A setting with its runs; `summary` is of those that are completed."""

    setting: str
    results: tuple[Result, ...]
    summary: Summary
    best: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether every run of it has a final loss."""
        return self.summary.count == len(self.results)


def setting_of(swept: Mapping[str, Any]) -> str:
    """What is swept apart from the seed: equal for runs that differ in their seed only."""
    kept = {key: swept[key] for key in sorted(swept) if key != SEED}
    return encode_json(kept).decode("utf-8", "replace")


def results_of(members: Iterable[Member]) -> tuple[str, list[Result]]:
    """What is compared, and the runs with it: rewards; validation losses if there are none in the
    whole group; training losses if there is neither.
    """
    members = list(members)
    of: dict[str, Callable[[Member], float | None]] = {
        REWARD: lambda one: one.reward,
        VAL_LOSS: lambda one: one.val_loss,
        LOSS: lambda one: one.loss,
    }
    metric = next((key for key in of if any(of[key](one) is not None for one in members)), LOSS)
    return metric, [Result(m.run_id, m.setting, of[metric](m), m.completed) for m in members]


def reward_of(best_metric: str, best: float | None) -> float | None:
    """The best value of a run's state, if it is a reward."""
    return best if best_metric in REWARDS else None


def rank(results: Iterable[Result], metric: str = LOSS) -> list[Ranked]:
    """The settings of a group, lowest mean final loss first, or highest reward; those without one
    follow in order.

    One of several is the best: of those whose runs are all completed, or if there is none, of those
    with a completed run. A setting with a loss that is not finite is never the best.
    """
    by_setting: dict[str, list[Result]] = {}
    for result in results:
        by_setting.setdefault(result.setting, []).append(result)
    found = [
        Ranked(setting, tuple(runs), summarize(_final(runs)))
        for setting, runs in by_setting.items()
    ]
    found.sort(key=lambda one: _order(one.summary.mean, metric))
    able = [one for one in found if _order(one.summary.mean, metric) < math.inf]
    best = next((one for one in able if one.is_complete), able[0] if able else None)
    if len(found) == 1:
        best = None
    return [Ranked(one.setting, one.results, one.summary, one is best) for one in found]


def _final(runs: Iterable[Result]) -> list[float]:
    return [run.loss for run in runs if run.completed and run.loss is not None]


def _order(mean: float | None, metric: str) -> float:
    if mean is None or not math.isfinite(mean):
        return math.inf
    return -mean if metric == REWARD else mean
