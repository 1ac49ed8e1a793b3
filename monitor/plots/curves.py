"""Data derived for the curves, continued while runs grow: pyramids, averages, other x axes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from monitor.data.positions import Positions
from monitor.data.pyramid import Growing, Pyramid, Pyramids, unchanged
from monitor.data.smoothing import Smoother
from monitor.data.views import RunDetail
from shared.charts.window import Kind
from shared.run.metrics_rows import Floats, Ints, Series

#: Averages kept per run, each as long as its series: enough for the charts of a page.
_KEPT_AVERAGES = 24
_KEPT_RUNS = 12

_TOKENS = "tokens_total"
_TIME, _STEP_TIME = "time", "step_time_ms"


def series_of(detail: RunDetail) -> dict[str, Series]:
    """Every non-empty series of a run by its key, `loss` and `val_loss` first."""
    found = dict(detail.series or {s.key: s for s in (detail.loss, detail.val_loss)})
    order = [*(key for key in ("loss", "val_loss") if key in found), *found]
    return {key: found[key] for key in order if len(found[key]) and key != _TIME}


class _Elapsed:
    """The elapsed seconds at each step of a run, from the clock or from the step times."""

    def __init__(self) -> None:
        self._source: Series | None = None
        self._seconds = Growing()
        self._origin = 0.0

    def update(self, source: Series) -> Series:
        """In O(new) while `source` only grows."""
        old = self._source
        kept = 0 if old is None or old.key != source.key else unchanged(old.values, source.values)
        if kept < self._seconds.size:
            self._seconds.cut(0)
        new = source.values[self._seconds.size :]
        if source.key == _STEP_TIME:
            so_far = float(self._seconds.view()[-1]) if self._seconds.size else 0.0
            taken = np.where(np.isfinite(new) & (new > 0) & (new < 1e12), new, 0.0)
            self._seconds.append(so_far + np.cumsum(taken) / 1000)
        else:
            if not self._seconds.size:
                finite = new[np.isfinite(new)][:1]
                self._origin = float(finite[0]) if len(finite) else 0.0
            self._seconds.append(new - self._origin)
        self._source = source
        return Series(_TIME, source.steps, self._seconds.view())


class RunCurves:
    """Everything needed to draw one run, continued as its detail is renewed."""

    def __init__(self) -> None:
        self._detail: RunDetail | None = None
        self._series: dict[str, Series] = {}
        self._pyramids = Pyramids()
        self._averages: OrderedDict[str, Smoother] = OrderedDict()
        self._elapsed = _Elapsed()
        self._axes: dict[Kind, Positions] = {}
        self._updated: set[Kind] = set()

    def update(self, detail: RunDetail) -> None:
        """Take the run as it is now. Everything is computed on first use."""
        if detail is self._detail:
            return
        self._detail = detail
        self._series = series_of(detail)
        self._updated.clear()

    @property
    def series(self) -> dict[str, Series]:
        """Every non-empty series, by key."""
        return self._series

    def pyramid(self, key: str) -> Pyramid:
        """The pyramid of series `key`: the one that came with the detail, else our own."""
        assert self._detail is not None
        series = self._series[key]
        ready = self._detail.pyramids.get(key)
        if ready is not None and len(ready) == len(series):
            return ready
        return self._pyramids.of(series)

    def average(self, key: str, weight: float) -> Floats:
        """The moving average at every value of series `key`."""
        smoother = self._averages.get(key)
        if smoother is None or smoother.weight != weight:
            smoother = self._averages[key] = Smoother(weight)
        self._averages.move_to_end(key)
        while len(self._averages) > _KEPT_AVERAGES:
            self._averages.popitem(last=False)
        return smoother.update(self._series[key]).values

    # -- x -------------------------------------------------------------------------------

    def has_axis(self, kind: Kind) -> bool:
        """Whether the steps of this run have a place on that axis."""
        return kind == "step" or self._axis_source(kind) is not None

    def places(self, key: str, kind: Kind) -> Floats | Ints | None:
        """The x of every value of series `key`; None where the run has no such axis."""
        if kind == "step":
            return self._series[key].steps
        axis = self._axis(kind)
        return None if axis is None else axis.of(self._series[key])

    def range(self, kind: Kind) -> tuple[float, float] | None:
        """The first and the last x; None if there is none."""
        if kind == "step":
            if not self._series:
                return None
            assert self._detail is not None
            all_series = [*self._series.values(), *self._detail.abandoned.values()]
            ends = [(int(s.steps[0]), int(s.steps[-1])) for s in all_series if len(s)]
            return float(min(e[0] for e in ends)), float(max(e[1] for e in ends))
        axis = self._axis(kind)
        return None if axis is None else axis.range

    def convert(self, x: Sequence[float], old: Kind, new: Kind) -> list[float]:
        """Convert places from one axis to another, interpolating between known steps."""
        found = np.array(x, np.float64)
        for kind, to_steps in ((old, True), (new, False)):
            if kind == "step" or not len(found):
                continue
            axis, source = self._axis(kind), self._axis_source(kind)
            places = None if axis is None or source is None else axis.of(source)
            if places is None or source is None:
                continue
            steps = source.steps.astype(np.float64)
            found = np.interp(found, places, steps) if to_steps else np.interp(found, steps, places)
        return [float(one) for one in found]

    def moved(self, kind: Kind) -> int:
        """The number of points moved so that the axis rises."""
        axis = None if kind == "step" else self._axis(kind)
        return 0 if axis is None else axis.moved

    def _axis_source(self, kind: Kind) -> Series | None:
        if self._detail is None:
            return None
        if kind == "tokens":
            return self._series.get(_TOKENS)
        clock = self._detail.series.get(_TIME)
        if clock is not None and len(clock):
            return clock
        return self._series.get(_STEP_TIME)

    def _axis(self, kind: Kind) -> Positions | None:
        source = self._axis_source(kind)
        if source is None:
            return None
        axis = self._axes.setdefault(kind, Positions())
        if kind not in self._updated:
            axis.update(self._elapsed.update(source) if kind == "time" else source)
            self._updated.add(kind)
        return axis


class CurveStore:
    """The curves of the runs shown last. All charts of a screen share one store."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, RunCurves] = OrderedDict()

    def of(self, detail: RunDetail) -> RunCurves:
        """The curves of this run as they are now."""
        curves = self._runs.setdefault(detail.run_id, RunCurves())
        self._runs.move_to_end(detail.run_id)
        while len(self._runs) > _KEPT_RUNS:
            self._runs.popitem(last=False)
        curves.update(detail)
        return curves
