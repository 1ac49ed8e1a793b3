"""The smoothed line of a growing series."""

from __future__ import annotations

from monitor.data.pyramid import Growing, unchanged
from shared.charts.smoothing import MovingAverage
from shared.run.metrics_rows import Series


class Smoother:
    """Keeps the moving average of one series, in O(1) per appended value."""

    def __init__(self, weight: float) -> None:
        """Raises ValueError for a weight that `MovingAverage` refuses."""
        self.weight = weight
        self._moving = MovingAverage(weight)
        self._average = Growing()
        self._source: Series | None = None

    def update(self, series: Series) -> Series:
        """The average at every step of `series`. Earlier results stay valid."""
        kept = 0 if self._source is None else unchanged(self._source.values, series.values)
        if kept < self._average.size:
            self._moving = MovingAverage(self.weight)
            self._average.cut(0)
        self._average.append(self._moving.extend(series.values[self._average.size :]))
        self._source = series
        return Series(series.key, series.steps, self._average.view())
