"""The x axes of one run beside its steps: time, tokens, any of its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from monitor.data.positions import Positions, is_rising
from monitor.data.pyramid import unchanged
from monitor.data.views import RunDetail
from monitor.plots.elapsed import STEP_TIME, TIME, Elapsed, Trained
from shared.charts.reduce import HUGE
from shared.charts.window import Kind
from shared.run.metrics_rows import Floats, Ints, Series

_TOKENS = "tokens_total"


@dataclass(frozen=True, eq=False)
class Placed:
    """The x of every value of a series.

    On an axis that goes back and forth, `order` sorts the values by their x; else it is None.
    """

    x: Floats | Ints
    order: Ints | None = None


class _Sorted:
    """The places of values on an axis that goes back and forth, such as a learning rate."""

    def __init__(self, axis: Series) -> None:
        known = np.abs(axis.values) <= HUGE
        self._axis, self._steps, self._values = axis, axis.steps[known], axis.values[known]
        self._orders: dict[int, tuple[Ints, Placed]] = {}

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and the greatest x; None while there is none."""
        return (float(self._values.min()), float(self._values.max())) if len(self._values) else None

    def of(self, series: Series) -> Placed | None:
        """The places of `series`. Series with the same steps share them."""
        if not len(self._values):
            return None
        known = self._orders.get(len(series))
        if known is not None and unchanged(known[0], series.steps) == len(series):
            return known[1]
        x = np.interp(series.steps, self._steps, self._values)
        order = np.argsort(x, kind="stable")
        placed = Placed(x[order], order)
        self._orders[len(series)] = (series.steps, placed)
        return placed

    def at(self, steps: Floats) -> Floats:
        """The x of these steps."""
        return np.interp(steps, self._steps, self._values) if len(self._values) else steps


class RunAxes:
    """The axes of one run, continued as its detail is renewed; each computed on first use."""

    def __init__(self) -> None:
        self._detail: RunDetail | None = None
        self._series: Mapping[str, Series] = {}
        self._elapsed, self._trained = Elapsed(), Trained()
        self._positions: dict[Kind, Positions] = {}
        self._updated: set[Kind] = set()
        self._metric: tuple[Series, Positions | _Sorted] | None = None

    def update(self, detail: RunDetail, series: Mapping[str, Series]) -> None:
        """Take the run as it is now."""
        self._detail, self._series = detail, series
        self._updated.clear()

    def has(self, kind: Kind, metric: str = "") -> bool:
        """Whether the steps of this run have a place on that axis."""
        if kind in ("step", "relative"):
            return True
        if kind == "metric":
            return self.range(kind, metric) is not None
        return self._source(kind, metric) is not None

    def is_worthwhile(self, kind: Kind, metric: str = "") -> bool:
        """Whether it shows anything but what the axis before it does."""
        if not self.has(kind, metric):
            return False
        if kind == "relative":
            steps = self._steps()
            return len(steps) > 1 and steps[0] > 2 * (steps[1] - steps[0])
        if kind == "training":
            whole, training = self.range("time"), self.range("training")
            return bool(whole and training and whole[1] > 1.001 * training[1])
        return True

    def of(self, series: Series, kind: Kind, metric: str = "") -> Placed | None:
        """The places of `series`; None where the run has no such axis."""
        if kind == "step":
            return Placed(series.steps)
        if kind == "relative":
            return Placed(series.steps - self._first())
        axis = self._axis(kind, metric)
        if isinstance(axis, _Sorted):
            return axis.of(series)
        x = None if axis is None else axis.of(series)
        return None if x is None else Placed(x)

    def range(self, kind: Kind, metric: str = "") -> tuple[float, float] | None:
        """The first and the last x; None if there is none."""
        if kind in ("step", "relative"):
            ends = [(int(s.steps[0]), int(s.steps[-1])) for s in self._all(kind) if len(s)]
            if not ends or not self._series:
                return None
            first = self._first() if kind == "relative" else 0
            return float(min(e[0] for e in ends) - first), float(max(e[1] for e in ends) - first)
        axis = self._axis(kind, metric)
        return None if axis is None else axis.range

    def rises(self, kind: Kind, metric: str = "") -> bool:
        """Whether x never falls from one step to the next."""
        return not isinstance(self._axis(kind, metric), _Sorted)

    def convert(self, x: Sequence[float], old: Kind, new: Kind, metric: str = "") -> list[float]:
        """Convert places from one axis to another, interpolating between known steps."""
        found = np.array(x, np.float64)
        for kind, to_steps in ((old, True), (new, False)):
            if kind == "step" or not len(found):
                continue
            if kind == "relative":
                found = found + self._first() if to_steps else found - self._first()
                continue
            axis, source = self._axis(kind, metric), self._source(kind, metric)
            if isinstance(axis, _Sorted):
                found = found if to_steps else axis.at(found)
                continue
            places = None if axis is None or source is None else axis.of(source)
            if places is None or source is None:
                continue
            steps = source.steps.astype(np.float64)
            found = np.interp(found, places, steps) if to_steps else np.interp(found, steps, places)
        return [float(one) for one in found]

    def moved(self, kind: Kind) -> int:
        """The number of points moved so that the axis rises."""
        axis = None if kind in ("step", "metric") else self._axis(kind, "")
        return axis.moved if isinstance(axis, Positions) else 0

    # -- the steps -----------------------------------------------------------------------

    def _all(self, kind: Kind) -> list[Series]:
        found = list(self._series.values())
        if kind == "step" and self._detail is not None:
            found += self._detail.abandoned.values()
        return found

    def _steps(self) -> Ints:
        """Those of the series that begins first."""
        found = [series.steps for series in self._series.values()]
        return min(found, key=lambda steps: int(steps[0]), default=np.empty(0, np.int64))

    def _first(self) -> int:
        steps = self._steps()
        return int(steps[0]) if len(steps) else 0

    # -- where the others come from ------------------------------------------------------

    def _source(self, kind: Kind, metric: str) -> Series | None:
        if self._detail is None:
            return None
        if kind == "metric":
            return self._series.get(metric)
        if kind == "tokens":
            return self._series.get(_TOKENS)
        clock = self._detail.series.get(TIME)
        if clock is not None and len(clock):
            return clock
        return self._series.get(STEP_TIME)

    def _axis(self, kind: Kind, metric: str) -> Positions | _Sorted | None:
        source = self._source(kind, metric)
        if source is None or kind in ("step", "relative"):
            return None
        if kind == "metric":
            return self._over(source)
        axis = self._positions.setdefault(kind, Positions())
        if kind not in self._updated:
            axis.update(self._seconds(source, kind) if kind != "tokens" else source)
            self._updated.add(kind)
        return axis

    def _seconds(self, source: Series, kind: Kind) -> Series:
        if kind == "time" or source.key == STEP_TIME or self._detail is None:
            return self._elapsed.update(source)
        return self._trained.update(source, self._detail.halts)

    def _over(self, source: Series) -> Positions | _Sorted:
        if self._metric is not None and self._metric[0] is source:
            return self._metric[1]
        known = self._metric[1] if self._metric and self._metric[0].key == source.key else None
        axis: Positions | _Sorted
        if is_rising(source.values):
            axis = known if isinstance(known, Positions) else Positions()
            axis.update(source)
        else:
            axis = _Sorted(source)
        self._metric = (source, axis)
        return axis
