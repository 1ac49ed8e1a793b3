"""What the curves of a run suggest to a person, each with the figures it rests on.

Every rule wants more evidence than a healthy run shows by chance: a mean has to differ by several
of its standard errors, and by a share that matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shared.run.metrics_rows import Floats, Ints, Series

LEAST = 200  # values of the loss before anything is said
_PLATEAU = 0.005  # share of the loss that a plateau gains at most, at 95 %
_RISEN = 0.05  # share by which a loss above its best counts as diverging
_SLOWER = 0.75  # share of the usual throughput
_LASTING = 40  # steps that are slower, at least: a machine is busy for a moment now and then
_SPIKE_Z = 8.0  # robust deviations
_SPIKES = 3
_NORMAL = 1.4826  # the median absolute deviation of a normal distribution, as one sigma
_BINS = 20


@dataclass(frozen=True)
class Advice:
    """`kind` names the rule; `text` is a sentence with what to do, `evidence` one with figures."""

    kind: str
    text: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.text} ({self.evidence})"


def advise(
    loss: Series,
    validation: Series | None = None,
    throughput: Series | None = None,
    learning_rate: Series | None = None,
) -> list[Advice]:
    """What to say of a run with these curves. The steps are those of one attempt."""
    steps, values = finite(loss)
    if len(values) < LEAST:
        return []
    found = [
        _diverging(steps, values),
        _overfitting(steps, values, validation),
        _spikes(steps, values),
        _slower(throughput),
    ]
    if found[0] is None:
        found.append(_plateau(steps, values, validation, learning_rate))
    return [advice for advice in found if advice is not None]


def finite(series: Series) -> tuple[Ints, Floats]:
    kept = np.isfinite(series.values) & (np.abs(series.values) < 1e100)
    return series.steps[kept], series.values[kept]


def standard_error(values: Floats) -> float:
    """The standard error of the mean, allowing for neighbours that are alike."""
    if len(values) < 8:
        return math.inf
    apart = np.diff(values)
    whole, noise = float(values.std()), float(apart.std()) / math.sqrt(2)
    alike = max(1.0, (whole / noise) ** 2) if noise > 0 else len(values)
    return whole * math.sqrt(min(len(values), alike) / len(values))


def _diverging(steps: Ints, values: Floats) -> Advice | None:
    """The loss has risen well above the best that it held for a while."""
    bins = np.array_split(values, _BINS)
    means = np.array([float(np.median(part)) for part in bins])
    best, now = int(means.argmin()), means[-1]
    rise = float(now - means[best])
    errors = [standard_error(part) for part in bins]
    # A median spreads by a quarter more than a mean, and the best of many is low by chance.
    noise = 1.25 * max(errors[-1], errors[-2], errors[best], float(np.median(errors)))
    lasting = bool((means[-2:] > means[best] + _RISEN * abs(means[best])).all())
    if best > _BINS - 3 or not lasting or rise < 5 * noise:
        return None
    first = int(steps[sum(len(part) for part in bins[:best])])
    return Advice(
        "diverging",
        "The loss is rising: go back to an earlier checkpoint with a lower learning rate",
        f"{means[best]:.4g} around step {first}, {now:.4g} around step {int(steps[-1])}",
    )


def _spikes(steps: Ints, values: Floats) -> Advice | None:
    """Single losses far above their neighbours, lately and more often than before: as often as ever
    they are those of hard data."""
    count = max(LEAST, len(values) // 5)
    if len(values) < 2 * count:
        return None
    trend = np.convolve(np.pad(values, 10, mode="edge"), np.ones(21) / 21, mode="valid")
    rest = values - trend
    middle = float(np.median(rest[-count:]))
    sigma = _NORMAL * float(np.median(np.abs(rest[-count:] - middle)))
    if sigma <= 0:
        return None
    far = np.flatnonzero(rest - middle > _SPIKE_Z * sigma)
    every = far[np.diff(far, prepend=-100) > 5]
    first = len(values) - count
    apart, earlier = every[every >= first], every[every < first]
    usual = len(earlier) * count / first
    if len(apart) < max(_SPIKES, 2 * usual + 3 * math.sqrt(usual)):
        return None
    return Advice(
        "spikes",
        "The loss spikes: a lower learning rate, tighter clipping (optim.grad_clip) or a longer "
        "warmup helps",
        f"{len(apart)} spikes since step {int(steps[first])}, the last at step "
        f"{int(steps[apart[-1]])}",
    )


def _plateau(
    steps: Ints, values: Floats, validation: Series | None, learning_rate: Series | None
) -> Advice | None:
    """The loss has not fallen over the last third, while the learning rate stayed up."""
    rate = None if learning_rate is None else finite(learning_rate)[1]
    if rate is not None and len(rate) and rate[-1] < 0.9 * rate.max():
        return None  # it rises or decays: the curve is about to change
    count = len(values) // 3
    if count < LEAST // 2:
        return None
    halves = np.array_split(values[-count:], 2)
    gain = float(halves[0].mean() - halves[1].mean())
    error = math.hypot(standard_error(halves[0]), standard_error(halves[1]))
    level = abs(float(halves[1].mean()))
    if level == 0 or error > _PLATEAU * level or gain + 2 * error > _PLATEAU * level:
        return None
    if validation is not None:
        _, held = finite(validation)
        if len(held) >= 4 and held[-1] < (1 - _PLATEAU) * held[-3]:
            return None
    noise = float(np.diff(values[-count:]).std()) / math.sqrt(2)
    more = ", or average over more tokens (--accumulation-steps)" if noise > 0.02 * level else ""
    return Advice(
        "plateau",
        f"The loss stands still: let the learning rate decay (train --decay-from){more}",
        f"{halves[0].mean():.4g}, then {halves[1].mean():.4g} over steps "
        f"{int(steps[-count])} to {int(steps[-1])}",
    )


def _overfitting(steps: Ints, values: Floats, validation: Series | None) -> Advice | None:
    """The validation loss rises while the training loss falls."""
    if validation is None:
        return None
    at, held = finite(validation)
    if len(held) < 5:
        return None
    best = int(held.argmin())
    later = held[best + 1 :]
    if len(later) < 3 or later[-3:].min() < 1.01 * held[best] or later[-1] < later[-3]:
        return None
    then = values[np.searchsorted(steps, at[best]) :]
    if len(then) < 40:
        return None
    quarter = len(then) // 4
    before, after = then[:quarter], then[-quarter:]
    if after.mean() >= before.mean() - 2 * math.hypot(
        standard_error(before), standard_error(after)
    ):
        return None
    return Advice(
        "overfitting",
        "The model learns its training data by heart: take the best checkpoint, stop early "
        "(--patience), or train on more data",
        f"val_loss {held[best]:.4g} at step {int(at[best])}, {later[-1]:.4g} at step "
        f"{int(at[-1])}, while the loss fell from {before.mean():.4g} to {after.mean():.4g}",
    )


def _slower(throughput: Series | None) -> Advice | None:
    """Steps take longer than they did."""
    if throughput is None:
        return None
    steps, values = finite(throughput)
    count = max(_LASTING, len(values) // 20)
    if len(values) < LEAST:
        return None
    usual, now = float(np.median(values[: len(values) // 2])), float(np.median(values[-count:]))
    lately = np.array_split(values[-count:], 2)
    if usual <= 0 or max(float(np.median(part)) for part in lately) > _SLOWER * usual:
        return None
    return Advice(
        "slower",
        "Training has become slower: something else uses the machine, or it is too hot",
        f"{usual:.4g} tokens/s before, {now:.4g} since step {int(steps[-count])}",
    )
