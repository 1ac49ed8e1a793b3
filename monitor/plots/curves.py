"""Data derived for the curves, continued while runs grow: pyramids, averages, other x axes."""

from __future__ import annotations

from collections import OrderedDict

from monitor.data.pyramid import Pyramid, Pyramids
from monitor.data.smoothing import Smoother
from monitor.data.views import RunDetail
from monitor.plots.axes import RunAxes
from monitor.plots.spread import spread_of
from shared.charts.figure import Curve, RawPoints
from shared.charts.smoothing import is_long_enough
from shared.charts.window import Kind
from shared.run.metrics_columns import TIME
from shared.run.metrics_rows import Floats, Series

#: Averages kept per run, each as long as its series: enough for the charts of a page.
_KEPT_AVERAGES = 24
_KEPT_RUNS = 12


def series_of(detail: RunDetail) -> dict[str, Series]:
    """Every non-empty series of a run by its key, `loss` and `val_loss` first."""
    found = dict(detail.series or {s.key: s for s in (detail.loss, detail.val_loss)})
    order = [*(key for key in ("loss", "val_loss") if key in found), *found]
    return {key: found[key] for key in order if len(found[key]) and key != TIME}


class RunCurves:
    """Everything needed to draw one run, continued as its detail is renewed."""

    def __init__(self) -> None:
        self._detail: RunDetail | None = None
        self._series: dict[str, Series] = {}
        self._pyramids = Pyramids()
        self._averages: OrderedDict[str, Smoother] = OrderedDict()
        self.axes = RunAxes()

    def update(self, detail: RunDetail) -> None:
        """Take the run as it is now. Everything is computed on first use."""
        if detail is self._detail:
            return
        self._detail = detail
        self._series = series_of(detail)
        self.axes.update(detail, self._series)

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

    def curve(
        self,
        key: str,
        label: str,
        ink: str,
        *,
        kind: Kind,
        metric: str = "",
        weight: float = 0.0,
        spread: bool = False,
    ) -> Curve | None:
        """The curve of series `key` on that axis; None where the run has no such axis.

        With a `weight` it has a moving average, if it is long enough for one. `spread`: a mean is
        drawn in the band of its standard deviation.
        """
        series = self._series[key]
        placed = self.axes.of(series, kind, metric)
        if placed is None:
            return None
        smooth = self.average(key, weight) if is_long_enough(len(series), weight) else None
        if placed.order is None:
            x = None if kind == "step" else placed.x
            if spread and (band := spread_of(key, self._series)) is not None:
                return Curve(label, ink, band, x, series.values if smooth is None else smooth)
            return Curve(label, ink, self.pyramid(key), x, smooth)
        order = placed.order
        moved = Series(key, series.steps[order], series.values[order])
        return Curve(
            label, ink, RawPoints(moved), placed.x, None if smooth is None else smooth[order]
        )


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
