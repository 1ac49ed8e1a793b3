"""Reinforcement learning in figures: rewards, rates of answers, where the time goes. No screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from monitor.data.main_metric import REWARD
from monitor.data.views import EventView, RunDetail
from shared.run.metrics_rows import Floats, Series

LATELY = 10  # iterations that a figure is the mean of
_SPARKS = 24  # values of a curve one line high
_ADVICE = 2  # events
_NO_PART = frozenset({REWARD, "reward_std", "reward_seconds"})
_PART = "reward_"
_HELD_OUT = {REWARD: "val_reward"}
_RATES = (
    ("parse_rate", "parses"),
    ("compile_rate", "compiles"),
    ("test_rate", "passes tests"),
)
_MEASURES = (
    ("completion_length", "length in tokens"),
    ("truncated_share", "cut off"),
    ("dropped_groups", "dropped groups"),
    ("entropy", "entropy in nats"),
    ("kl", "KL in nats"),
    ("clipped_share", "clipped tokens"),
    ("curriculum_share", "given of answers"),
    ("policy_gap", "policy gap in nats"),
)
_SHARES = frozenset({"truncated_share", "clipped_share", "curriculum_share"})
SPREAD, DETAIL, MEASURE = "spread", "part", "measure"


@dataclass(frozen=True)
class Course:
    """A series over the run: the mean of its first and of its last values, and some between.

    In training these are means of `LATELY` iterations, held out of single evaluations. None: it
    has no finite value there.
    """

    first: float | None
    now: float | None
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Row:
    """A figure in training and on held-out tasks, where it is known.

    `kind` is `spread`, `part` (of the reward) or `measure`; the reward itself has none. `is_share`:
    it is 0 to 1, to be shown in percent.
    """

    key: str
    label: str
    kind: str = ""
    is_share: bool = False
    training: Course | None = None
    held_out: Course | None = None


@dataclass(frozen=True)
class TimeShares:
    """Seconds of one iteration, lately: answering, judging from then on, optimizer steps."""

    rollout: float
    reward: float
    step: float

    @property
    def total(self) -> float:
        """Of the whole iteration."""
        return self.rollout + self.reward + self.step


@dataclass(frozen=True)
class Reinforcement:
    """A run with rewards in figures; `advice` are its newest warnings, the last one first."""

    iteration: int | None = None
    rows: tuple[Row, ...] = ()
    time: TimeShares | None = None
    advice: tuple[EventView, ...] = ()


def has_rewards(detail: RunDetail | None) -> bool:
    """Whether it is a run with records of reinforcement learning."""
    return detail is not None and (REWARD in detail.series or bool(detail.answers))


def reinforcement(detail: RunDetail) -> Reinforcement:
    """The figures of a run; cheap however long it is."""
    series = detail.series
    iteration = series.get("iteration")
    newest = None if iteration is None or not len(iteration) else float(iteration.values[-1])
    advice = [event for event in detail.events if event.kind == "advice"]
    return Reinforcement(
        iteration=int(newest) if newest is not None and np.isfinite(newest) else None,
        rows=tuple(row for row in _rows(series) if row.training or row.held_out),
        time=None if detail.approximate else _time(series),  # a skim lacks most of the steps
        advice=tuple(reversed(advice[-_ADVICE:])),
    )


def _rows(series: Mapping[str, Series]) -> Iterator[Row]:
    def row(key: str, label: str, kind: str, *, is_share: bool = False) -> Row:
        held_out = _course(series, _HELD_OUT.get(key, f"val_{key}"), 1)
        return Row(key, label, kind, is_share, _course(series, key, LATELY), held_out)

    yield row(REWARD, "reward", "")
    yield row("reward_std", "spread ±", SPREAD)
    for key in series:
        if key.startswith(_PART) and key not in _NO_PART:
            yield row(key, key.removeprefix(_PART).replace("_", " "), DETAIL)
    for key, label in _RATES:
        yield row(key, label, MEASURE, is_share=True)
    for key, label in _MEASURES:
        yield row(key, label, MEASURE, is_share=key in _SHARES)


def _course(series: Mapping[str, Series], key: str, window: int) -> Course | None:
    one = series.get(key)
    if one is None or not len(one):
        return None
    values = one.values
    # Short runs are halved: the same values are not first and last.
    count = max(1, min(window, len(values) // 2))
    chosen = np.linspace(0, len(values) - 1, min(_SPARKS, len(values))).round().astype(np.int64)
    return Course(
        first=_mean(values[:count]) if len(values) > 1 else None,
        now=_mean(values[-count:]),
        curve=tuple(float(values[i]) for i in chosen),
    )


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _time(series: Mapping[str, Series]) -> TimeShares | None:
    """What an iteration took, on average of the last ones whose every step is recorded."""
    rollout, reward = series.get("rollout_seconds"), series.get("reward_seconds")
    steps = series.get("step_time_ms")
    if rollout is None or not len(rollout) or steps is None:
        return None
    first = rollout.steps[-min(LATELY, len(rollout)) :]
    count = len(first)
    spent = steps.values[np.searchsorted(steps.steps, first[0]) :]
    whole = float(spent[np.isfinite(spent)].sum()) / 1000 / count
    answering = _mean(rollout.values[-count:]) or 0.0
    judging = 0.0
    if reward is not None and len(reward):
        judging = _mean(reward.values[-count:]) or 0.0
    if not whole > 0:
        return None
    return TimeShares(answering, judging, max(0.0, whole - answering - judging))
