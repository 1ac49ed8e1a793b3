"""A mean with its spread: `reward_mean` is a line in the band of one standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.charts.reduce import Envelope, reduce_between
from shared.run.metrics_rows import Floats, Series

_MEAN, _DEVIATION = "_mean", "_std"


@dataclass(frozen=True, eq=False)
class SpreadPoints:
    """`Points` whose extremes are those of mean - deviation and mean + deviation."""

    series: Series
    deviation: Floats

    def __len__(self) -> int:
        return len(self.series)

    def between(self, bounds: NDArray[np.intp]) -> Envelope:
        """See `Points.between`."""
        mean = self.series.values
        low = reduce_between(mean - self.deviation, bounds)
        high = reduce_between(mean + self.deviation, bounds)
        return Envelope(low.low, high.high, low.marks, low.nonfinite)


def spread_of(key: str, series: Mapping[str, Series]) -> SpreadPoints | None:
    """The series `NAME_mean` with its `NAME_std`; None where there is no such pair.

    A step without a finite deviation has none.
    """
    if not key.endswith(_MEAN):
        return None
    mean, other = series[key], series.get(key.removesuffix(_MEAN) + _DEVIATION)
    if other is None or not len(other) or not len(mean):
        return None
    at = np.minimum(np.searchsorted(other.steps, mean.steps), len(other) - 1)
    values = np.abs(other.values[at])
    known = (other.steps[at] == mean.steps) & np.isfinite(values)
    return SpreadPoints(mean, np.where(known, values, 0.0))
