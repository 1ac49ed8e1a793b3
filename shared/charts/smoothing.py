"""The exponential moving average over every raw value of a series."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from shared.run.metrics_rows import Floats

MAX_WEIGHT = 0.999
_BLOCK = 32  # values joined by one product of matrices
_AVERAGES = 2.0  # a curve must be so many times as long as the average
_FORGOTTEN = 1e-17  # a share no double can see


def is_long_enough(count: int, weight: float) -> bool:
    """Whether an average with this weight says anything about a curve of `count` values.

    A few validation losses would only be drawn far from where they are.
    """
    return weight > 0 and count * (1 - weight) >= _AVERAGES


class MovingAverage:
    """The average of a growing series, in O(1) per appended value.

    With `weight` w, the n-th finite value v gives m = w m + (1 - w) v, and the average is
    m / (1 - w**n): the correction of Kingma and Ba 2015 (section 3), without which the first
    values would be drawn towards zero. Non-finite values are skipped: the average stays as it
    was, NaN before the first finite one.
    """

    def __init__(self, weight: float) -> None:
        """Raises ValueError unless 0 <= weight <= MAX_WEIGHT."""
        if not 0.0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"a smoothing weight must be in 0…{MAX_WEIGHT}, got {weight}")
        self.weight = weight
        self._moving = 0.0  # m
        self._finite = 0  # n
        self._newest = math.nan
        self._least, self._greatest = math.inf, -math.inf

    def extend(self, values: Floats) -> Floats:
        """The average at each of the next `values`, shape (N,)."""
        finite = np.isfinite(values)
        clean = bool(finite.all())
        used = values if clean else values[finite]
        if not len(used):
            return np.full(len(values), self._newest)
        moving = moving_average(used, self.weight, self._moving)
        self._moving = float(moving[-1])
        with np.errstate(over="ignore"):
            average = self._correct(moving)
        # An average lies between the values: rounding must not make a constant waver.
        least = np.minimum.accumulate(np.concatenate(([self._least], used)))[1:]
        greatest = np.maximum.accumulate(np.concatenate(([self._greatest], used)))[1:]
        self._least, self._greatest = float(least[-1]), float(greatest[-1])
        average = np.clip(average, least, greatest)
        self._finite += len(used)
        before = self._newest
        self._newest = float(average[-1])
        if clean:
            return average
        # At a non-finite value: the average of the last finite one.
        spread: Floats = np.concatenate(([before], average))[np.cumsum(finite)]
        return spread

    def _correct(self, moving: Floats) -> Floats:
        """Divide by 1 - w**n, for as long as that is not 1."""
        if self.weight == 0.0:
            return moving
        rate = math.log(self.weight)
        uncorrected = int(math.log(_FORGOTTEN) / rate) - self._finite
        if uncorrected > 0:
            n = self._finite + 1 + np.arange(min(uncorrected, len(moving)))
            moving[: len(n)] /= -np.expm1(n * rate)
        return moving


def moving_average(values: Floats, weight: float, start: float = 0.0) -> Floats:
    """m[i] = weight * m[i - 1] + (1 - weight) * values[i], with m[-1] = `start`. O(N).

    Within blocks it is a product with the matrix of the weights' powers; what each block hands to
    the next follows the same rule with the weight's power, and is found the same way. Every term
    is weighted by at most 1, so nothing overflows and nothing cancels.
    """
    return _scan(values * (1.0 - weight), weight, start)


def _scan(terms: Floats, weight: float, start: float) -> Floats:
    """m[i] = weight * m[i - 1] + terms[i]."""
    size = len(terms)
    if size <= _BLOCK:
        found = np.empty(size)
        for i, term in enumerate(terms.tolist()):
            start = weight * start + term
            found[i] = start
        return found
    blocks = size // _BLOCK
    age = np.subtract.outer(np.arange(_BLOCK), np.arange(_BLOCK))
    with np.errstate(under="ignore"):
        powers = np.where(age >= 0, weight ** np.maximum(age, 0).astype(np.float64), 0.0)
        inside = terms[: blocks * _BLOCK].reshape(blocks, _BLOCK) @ powers.T
        after = _scan(inside[:, -1], weight**_BLOCK, start)
        before = np.concatenate(([start], after[:-1]))
        inside += np.multiply.outer(before, weight ** np.arange(1.0, _BLOCK + 1))
    rest = _scan(terms[blocks * _BLOCK :], weight, float(after[-1]))
    return np.concatenate((inside.ravel(), rest))


def line_between(smooth: Floats, bounds: NDArray[np.intp]) -> Floats:
    """The smoothed value at the end of each column, shape (columns,); NaN where it has none.

    `bounds` as for `reduce_between`. The average is that of the raw values, so that it does not
    depend on the number of columns.
    """
    starts, ends = bounds[:-1], bounds[1:]
    line = np.full(len(starts), np.nan)
    filled = starts < ends
    line[filled] = smooth[ends[filled] - 1]
    return line
