"""95 % confidence intervals of what was measured on tasks, or on groups of tasks that are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z = 1.959963984540054  # standard deviations around the mean that hold 95 % of a normal distribution
DRAWS = 10_000  # of the bootstrap
SEED = 0

Interval = tuple[float, float]


def wilson(rate: float, count: float) -> Interval:
    """Wilson's score interval of a rate seen in `count` independent trials."""
    middle = rate + Z * Z / (2 * count)
    reach = Z * math.sqrt(rate * (1 - rate) / count + Z * Z / (4 * count * count))
    scale = 1 + Z * Z / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def rate_interval(counts: Sequence[tuple[int, int]]) -> Interval:
    """The interval of a rate, from (successes, trials) of each task.

    Answers to one task are alike, so they count for fewer independent trials than there are: for as
    many as would scatter like the tasks' own rates do (Kish's effective sample size), at least one
    per task. With one trial per task it is Wilson's interval as it is.
    """
    tasks = len(counts)
    successes, trials = (sum(column) for column in zip(*counts, strict=True))
    rate = successes / trials
    independent = float(tasks)
    if tasks > 1 and 0 < successes < trials:
        squares = math.fsum((got - rate * tried) ** 2 for got, tried in counts)
        variance = squares * tasks / (tasks - 1) / trials**2
        most = rate * (1 - rate) / variance if variance else math.inf
        independent = min(max(most, independent), float(trials))
    return wilson(rate, independent)


def mean_interval(sums: Sequence[tuple[float, float]], *, seed: int = SEED) -> Interval:
    """The interval of a mean by the bootstrap over tasks: (sum, count) of each task.

    The 2.5th and 97.5th percentile of the means of `DRAWS` samples of tasks, drawn with
    replacement.
    """
    values = np.asarray(sums, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = []
    step = max(1, 2_000_000 // len(values))  # draws at once, to limit the memory
    for first in range(0, DRAWS, step):
        size = (min(step, DRAWS - first), len(values))
        drawn = values[generator.integers(0, len(values), size)].sum(axis=1)
        means.append(drawn[:, 0] / drawn[:, 1])
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return float(low), float(high)


def share_interval(sums: Sequence[tuple[float, float]], *, seed: int = SEED) -> Interval:
    """The interval of a mean of numbers from 0 to 1, by the bootstrap: (sum, count) of each task.

    Where all are 0, or all are 1, no bootstrap sample could differ; there it is Wilson's.
    """
    total, count = (math.fsum(column) for column in zip(*sums, strict=True))
    if total in (0.0, count):
        return wilson(total / count, len(sums))
    return mean_interval(sums, seed=seed)
