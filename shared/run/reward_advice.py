"""What the curves of a run with rewards suggest: whether the model learns the task, or the reward.

A reward can be raised without what it stands for. Then the reward rises and held-out code gets no
better, answers shrink, all of them become alike, or one part of the reward pays for another. Every
rule wants more evidence than a healthy run shows by chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared.run.advice import Advice, finite, standard_error
from shared.run.metrics_rows import Series

LEAST = 24  # iterations before anything is said
_WINDOW = 8  # iterations that make a level, at least
_SHARE = 8  # a level is an eighth of a long run
_ERRORS = 5.0  # standard errors by which two levels differ, at least
_EVALUATIONS = 4
_NOISY = 5.0  # deviations of two evaluations by which two such levels differ, at least
_FELL = 0.05  # of a rate or a reward: a fall that matters
_ROSE = 0.05
_ROSE_WITHOUT = 0.15  # a rise that should show in held-out code
_SAME = 0.02  # of a rate: not risen
_LITTLE = 0.15  # of the rise of the reward: not risen with it
_SOLVED = 0.9  # a rate that can hardly rise
_PART = 0.03  # of a part of the reward: a change that matters
_SHORTER = 0.5  # of the length that answers had
_ALIKE = 0.1  # of the entropy that answers had
_ALIKE_NATS = 0.1  # per token: above, answers still differ
_PREFIX = "reward_"
_NO_PARTS = frozenset({"reward_mean", "reward_std", "reward_seconds"})


@dataclass(frozen=True)
class _Level:
    """The mean of a window of iterations, its standard error, and the window's first step."""

    mean: float
    error: float
    step: int

    def above(self, other: _Level, least: float) -> bool:
        """Whether it is higher by at least `least`, and not by chance."""
        by = self.mean - other.mean
        return by >= least and by >= _ERRORS * math.hypot(self.error, other.error)


def advise_on_rewards(curves: Mapping[str, Series]) -> list[Advice]:
    """What to say of a run whose metrics are `curves`, by their names in the records."""
    reward = curves.get("reward_mean")
    if reward is None or len(finite(reward)[0]) < LEAST:
        return []
    found = (_hacking(reward, curves), _shorter(curves), _alike(curves), _traded(curves))
    return [advice for advice in found if advice is not None]


def _levels(series: Series | None) -> list[_Level]:
    """The windows of a curve, oldest first; the last one ends with the newest iteration."""
    if series is None:
        return []
    steps, values = finite(series)
    width = max(_WINDOW, len(values) // _SHARE)
    starts = range(len(values) % width, len(values), width)
    windows = [(int(steps[start]), values[start : start + width]) for start in starts]
    # Few values tell little of their own noise: no window has less than the others.
    usual = float(np.median([standard_error(part) for _, part in windows])) if windows else 0.0
    return [_Level(float(x.mean()), max(standard_error(x), usual), at) for at, x in windows]


def _around(levels: list[_Level], step: int) -> _Level:
    """The window that holds a step."""
    return [levels[0], *(level for level in levels if level.step <= step)][-1]


def _hacking(reward: Series, curves: Mapping[str, Series]) -> Advice | None:
    """The reward of training rises, and held-out code gets worse or stays as bad."""
    levels, compiled = _levels(reward), curves.get("val_compile_rate")
    if compiled is None or len(levels) < 2:
        return None
    at, rates = finite(compiled)
    if len(rates) < _EVALUATIONS:
        return None
    pairs = (rates[:-1] + rates[1:]) / 2  # two evaluations together are less noisy
    noise = float(np.diff(rates).std())
    best = int(pairs[:-1].argmax())
    before, now = _around(levels, int(at[best])), levels[-1]
    fell = pairs[best] - pairs[-1] >= max(_FELL, _NOISY * noise / 2) and best < len(pairs) - 2
    if fell and now.above(before, _ROSE):
        since, then = before, float(pairs[best])
    else:
        since, then = levels[0], float(rates[:3].mean())
        little = max(_SAME, _LITTLE * (now.mean - since.mean))
        stays = float(rates[-3:].mean()) - then <= little and pairs.max() < _SOLVED
        if len(rates) < _EVALUATIONS + 2 or not (stays and now.above(since, _ROSE_WITHOUT)):
            return None
        if _held_out_rose(curves.get("val_reward"), by=(now.mean - since.mean) / 3):
            return None
    return Advice(
        "reward_hacking",
        "The reward rises and held-out code gets no better: the model may have found a trick that "
        "the reward pays for. Look at the newest samples, and prefer the checkpoint with the best "
        "val_reward",
        f"reward_mean {since.mean:.3g} around step {since.step}, {now.mean:.3g} now; "
        f"val_compile_rate {then:.3g}, {pairs[-1]:.3g} now",
    )


def _held_out_rose(series: Series | None, by: float) -> bool:
    """Whether the reward of held-out answers has risen with that of training."""
    if series is None:
        return False
    values = finite(series)[1]
    return len(values) >= _EVALUATIONS and float(values[-2:].mean() - values[:2].mean()) >= by


def _shorter(curves: Mapping[str, Series]) -> Advice | None:
    """Answers have become much shorter, and not better."""
    levels = _levels(curves.get("completion_length"))
    if len(levels) < 2:
        return None
    longest = max(levels[:-1], key=lambda level: level.mean)
    now = levels[-1]
    if now.mean > _SHORTER * longest.mean or not longest.above(now, 1.0):
        return None
    for key in ("test_rate", "val_test_rate", "val_compile_rate", "compile_rate"):
        rates = finite(curves[key])[1] if key in curves else np.empty(0)
        if len(rates) < _EVALUATIONS:
            continue
        count = max(2, len(rates) // 4)
        was, became = float(rates[:count].mean()), float(rates[-count:].mean())
        if became - was > _SAME:
            return None  # shorter and better: it has learned where an answer ends
        return Advice(
            "length_collapse",
            "Answers become short and no better: the reward pays for saying little. Look at the "
            "newest samples, and give tests or a longer signature more weight",
            f"{longest.mean:.3g} tokens around step {longest.step}, {now.mean:.3g} now; {key} "
            f"{was:.3g} at first, {became:.3g} now",
        )
    return None


def _alike(curves: Mapping[str, Series]) -> Advice | None:
    """Answers to a prompt are nearly all the same."""
    levels = _levels(curves.get("entropy"))
    if len(levels) < 2:
        return None
    most, now = max(levels[:-1], key=lambda level: level.mean), levels[-1]
    if now.mean > min(_ALIKE * most.mean, _ALIKE_NATS) or not most.above(now, 0.0):
        return None
    return Advice(
        "entropy_collapse",
        "The answers to a prompt become all alike, and then there is nothing left to learn from: a "
        "lower learning rate, a higher rl.temperature or a KL penalty (rl.kl_beta) keeps them "
        "apart",
        f"entropy {most.mean:.3g} nats per token around step {most.step}, {now.mean:.3g} now",
    )


def _traded(curves: Mapping[str, Series]) -> Advice | None:
    """One part of the reward rises while another, which had been higher, falls."""
    parts = {
        key: levels
        for key, series in curves.items()
        if key.startswith(_PREFIX) and key not in _NO_PARTS and len(levels := _levels(series)) > 1
    }
    worst: tuple[float, str, str, _Level] | None = None
    for falling, levels in parts.items():
        best, now = max(levels[:-1], key=lambda level: level.mean), levels[-1]
        if not best.above(now, _PART):
            continue
        for rising, others in parts.items():
            if others[-1].above(_around(others, best.step), _PART):
                by = best.mean - now.mean
                if worst is None or by > worst[0]:
                    worst = by, falling, rising, best
    if worst is None:
        return None
    _, falling, rising, best = worst
    gained = _around(parts[rising], best.step)
    return Advice(
        "parts_traded",
        f"{rising} rises at the cost of {falling}: give {falling.removeprefix(_PREFIX)} more "
        f"weight (rl.weights), or look at the newest samples for what {rising} pays for",
        f"{falling} {best.mean:.3g} around step {best.step}, {parts[falling][-1].mean:.3g} now; "
        f"{rising} {gained.mean:.3g}, {parts[rising][-1].mean:.3g} now",
    )
