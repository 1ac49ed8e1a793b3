"""The exponential moving average of a growing series, over every raw value of it."""

from __future__ import annotations

import math

import numpy as np

from monitor.data.pyramid import Growing, unchanged
from shared.run.metrics_rows import Floats, Series

MAX_WEIGHT = 0.999
_BLOCK = 32  # values joined by one product of matrices
_FORGOTTEN = 1e-17  # a share no double can see


class Smoother:
    """Keeps the average of one series, in O(1) per appended value.

    With `weight` w, the n-th finite value v gives m = w m + (1 - w) v, and the average is
    m / (1 - w**n): the correction of Kingma and Ba 2015 (section 3), without which the first
    values would be drawn towards zero. Values that are not finite are passed over: the average
    stays as it was, NaN before the first finite one.
    """

    def __init__(self, weight: float) -> None:
        """Raises ValueError unless 0 <= weight <= MAX_WEIGHT."""
        if not 0.0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"a smoothing weight lies in 0…{MAX_WEIGHT}, and {weight} does not")
        self.weight = weight
        self._average = Growing()
        self._source: Series | None = None
        self._restart()

    def _restart(self) -> None:
        self._moving = 0.0  # m
        self._finite = 0  # n
        self._newest = math.nan
        self._average.cut(0)

    def update(self, series: Series) -> Series:
        """The average at every step of `series`, as it is now. What was given before stays."""
        kept = 0 if self._source is None else unchanged(self._source.values, series.values)
        if kept < self._average.size:
            self._restart()
        self._average.append(self._continue(series.values[self._average.size :]))
        self._source = series
        return Series(series.key, series.steps, self._average.view())

    def _continue(self, values: Floats) -> Floats:
        finite = np.isfinite(values)
        clean = bool(finite.all())
        used = values if clean else values[finite]
        if not len(used):
            return np.full(len(values), self._newest)
        moving = moving_average(used, self.weight, self._moving)
        self._moving = float(moving[-1])
        with np.errstate(over="ignore"):
            average = self._correct(moving)
        self._finite += len(used)
        before = self._newest
        self._newest = float(average[-1])
        if clean:
            return average
        # At a value that is not finite: the average of the last finite one.
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


def line_between(smooth: Floats, bounds: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Floats:
    """The smoothed value at the end of each column, shape (columns,); NaN where it has none.

    `bounds` as for `Pyramid.between`. The average is that of the raw values, so that it does not
    depend on how many columns there are.
    """
    starts, ends = bounds[:-1], bounds[1:]
    line = np.full(len(starts), np.nan)
    filled = starts < ends
    line[filled] = smooth[ends[filled] - 1]
    return line
