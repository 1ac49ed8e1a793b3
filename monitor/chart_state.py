"""How the charts are looked at: part of the axis, scales, smoothing, crosshair. Pure and frozen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from monitor.settings import CHART_SIZES, Settings
from shared.charts.window import WHOLE, Kind, Window, least_on_log

#: The x axes in the order in which they are offered.
AXES: tuple[Kind, ...] = ("step", "relative", "time", "training", "tokens", "metric")

#: Weights of the moving average, from none to as smooth as it gets.
WEIGHTS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)

ZOOM = 0.5  # of the width, by one key
WHEEL = 0.8  # of the width, by one notch of the wheel
PAN = 0.25  # of the width, by one key

Limits = tuple[float, float]  # the first and the last x there is


@dataclass(frozen=True)
class ChartState:
    """One way to look at all charts at once. Every change is a new state.

    `span` is the width of the window and `end` its last x. Without a span all there is is shown;
    without an end the window stays at the newest values while they arrive. `cursor` names the
    chart that keys act on, "" the first one. `crosshair` is an x of the present axis.

    `main` is the metric that was chosen to come first, "" for none; `query` filters the metrics by
    their names, `folded` are the groups of them that only have a heading. `x_metric` is the metric
    that the axis of kind "metric" shows.
    """

    cursor: str = ""
    main: str = ""
    query: str = ""
    folded: frozenset[str] = field(default_factory=frozenset)
    size: str = "medium"
    axis: Kind = "step"
    x_metric: str = ""
    log_x: bool = False
    log_y: frozenset[str] = field(default_factory=frozenset)
    weight: float = 0.0
    span: float | None = None
    end: float | None = None
    crosshair: float | None = None

    @classmethod
    def remembered(cls, settings: Settings) -> ChartState:
        """The way that `settings` remember."""
        return cls(
            main=settings.main_metric,
            folded=frozenset(settings.folded),
            size=settings.chart_size,
            axis=settings.x_axis,  # type: ignore[arg-type]  # checked when it was read
            x_metric=settings.x_metric,
            weight=settings.smoothing,
            log_y=frozenset(settings.log_y),
        )

    def kept_in(self, settings: Settings) -> Settings:
        """`settings` with what of this is remembered."""
        return dataclasses.replace(
            settings,
            main_metric=self.main,
            folded=tuple(sorted(self.folded)),
            chart_size=self.size,
            x_axis=self.axis,
            x_metric=self.x_metric,
            smoothing=self.weight,
            log_y=tuple(sorted(self.log_y)),
        )

    # -- the window ----------------------------------------------------------------------

    @property
    def is_zoomed(self) -> bool:
        """Whether only a part of the axis is shown."""
        return self.span is not None

    @property
    def is_following(self) -> bool:
        """Whether the window moves on with the newest values."""
        return self.end is None

    def window(self, limits: Limits, origin: float = 0.0) -> Window:
        """The part of the axis to draw of the x there are."""
        low, high = limits
        first, last = low, high
        if self.span is not None:
            span = min(self.span, high - low)
            last = high if self.end is None else min(max(self.end, low + span), high)
            first = max(low, last - span)
        least = least_on_log(self.axis, low - origin, high - origin)
        name = self.x_metric if self.axis == "metric" else ""
        log = self.log_x and least is not None
        return Window(first, last, self.axis, log, origin, least or 1.0, name)

    def zoomed(self, factor: float, at: float, limits: Limits, origin: float = 0.0) -> ChartState:
        """`factor` times as much of the axis (0.5 comes closer); `at` keeps its place.

        At the end of what there is, the window stays at the end.
        """
        window = self.window(limits, origin)
        if self.is_following and factor < 1 and at >= window.last:
            at = window.last
        if window.log:
            return self._showing(_zoom_log(window, factor, at, limits), limits)
        return self._showing(window.zoomed(factor, at, limits), limits)

    def panned(self, share: float, limits: Limits, origin: float = 0.0) -> ChartState:
        """The window moved by this share of its width."""
        if not self.is_zoomed:
            return self
        window = self.window(limits, origin)
        if window.log:
            return self._showing(_pan_log(window, share, limits), limits)
        return self._showing(window.panned(share, limits), limits)

    def reset(self) -> ChartState:
        """All there is, without a crosshair."""
        return dataclasses.replace(self, span=None, end=None, crosshair=None)

    def _showing(self, window: Window, limits: Limits) -> ChartState:
        low, high = limits
        span: float | None = window.last - window.first
        if window.first <= low and window.last >= high:
            span = None
        end = None if window.last >= high else window.last
        return dataclasses.replace(self, span=span, end=end)

    # -- scales --------------------------------------------------------------------------

    def on_axis(
        self,
        axis: Kind,
        metric: str = "",
        convert: Callable[[Sequence[float], Kind, Kind], Sequence[float]] | None = None,
        window: Window | None = None,
    ) -> ChartState:
        """Over another x axis: for "metric" over `metric`, or over the one that was chosen before.

        `convert` takes places from one axis to another, `window` is the present one. Without them
        what was zoomed and pointed at is forgotten.
        """
        metric = metric or self.x_metric
        if (axis, metric) == (self.axis, self.x_metric):
            return self
        moved = dataclasses.replace(
            self, axis=axis, x_metric=metric, span=None, end=None, crosshair=None
        )
        if axis == self.axis:
            return moved  # from one metric to another
        if convert is None:
            return moved
        if self.crosshair is not None:
            (x,) = convert([self.crosshair], self.axis, axis)
            moved = moved.pointed(x)
        if self.is_zoomed and window is not None:
            first, last = convert([window.first, window.last], self.axis, axis)
            if last > first:
                end = None if self.is_following else last
                moved = dataclasses.replace(moved, span=last - first, end=end)
        return moved

    def toggled_log_x(self) -> ChartState:
        """The other x scale."""
        return dataclasses.replace(self, log_x=not self.log_x)

    def toggled_log_y(self, key: str) -> ChartState:
        """The other value scale of chart `key`."""
        return dataclasses.replace(self, log_y=self.log_y ^ {key})

    def smoother(self) -> ChartState:
        """The next larger weight."""
        larger = [w for w in WEIGHTS if w > self.weight]
        return dataclasses.replace(self, weight=larger[0] if larger else WEIGHTS[-1])

    def rougher(self) -> ChartState:
        """The next smaller weight."""
        smaller = [w for w in WEIGHTS if w < self.weight]
        return dataclasses.replace(self, weight=smaller[-1] if smaller else 0.0)

    # -- the crosshair -------------------------------------------------------------------

    def pointed(self, x: float | None) -> ChartState:
        """With the crosshair at `x`, on a whole step where steps are shown."""
        if x is not None and self.axis in WHOLE:
            x = float(round(x))
        return dataclasses.replace(self, crosshair=x)

    def pointed_on(
        self, columns: int, limits: Limits, width: int, origin: float = 0.0
    ) -> ChartState:
        """The crosshair moved by `columns` of a canvas `width` columns wide.

        It enters at the end of the window. The window follows where it would leave it.
        """
        window = self.window(limits, origin)
        width = max(1, width)
        if self.crosshair is None or not window.first <= self.crosshair <= window.last:
            return self.pointed(window.last)
        edges = window.edges(width)
        column = int(window.columns_of([self.crosshair], width)[0]) + columns
        x = float(edges[min(max(column, 0), width)])
        if not 0 <= column < width:
            x = self.crosshair + columns * (window.last - window.first) / width
        if self.axis in WHOLE:  # several columns may be one step
            further = self.crosshair + math.copysign(1.0, columns)
            x = max(x, further) if columns > 0 else min(x, further)
        x = min(max(x, limits[0]), limits[1])
        found = self.pointed(x)
        if x > window.last or x < window.first:
            beyond = x - window.last if x > window.last else x - window.first
            width_of_window = window.last - window.first
            if width_of_window > 0 and not window.log:
                return found.panned(beyond / width_of_window, limits, origin)
        return found

    # -- the cursor ----------------------------------------------------------------------

    def at_chart(self, key: str) -> ChartState:
        """With the cursor on chart `key`."""
        return dataclasses.replace(self, cursor=key)

    def at_main(self) -> ChartState:
        """With the cursor on the main chart, whatever the metrics are filtered by."""
        return dataclasses.replace(self, cursor="", query="", folded=frozenset())

    # -- which charts --------------------------------------------------------------------

    def filtered(self, query: str) -> ChartState:
        """With the charts of those metrics that `query` finds."""
        return dataclasses.replace(self, query=query)

    def led_by(self, main: str) -> ChartState:
        """With this metric first, "" for the one that is first by itself; the cursor is on it."""
        return dataclasses.replace(self, main=main, cursor=main)

    def toggled_fold(self, group: str) -> ChartState:
        """With this group folded, or unfolded."""
        return dataclasses.replace(self, folded=self.folded ^ {group})

    def toggled_folds(self, groups: Sequence[str]) -> ChartState:
        """With all of these groups folded, or none where they all are."""
        all_folded = self.folded.issuperset(groups)
        changed = self.folded.difference(groups) if all_folded else self.folded.union(groups)
        return dataclasses.replace(self, folded=changed)

    def next_size(self) -> ChartState:
        """With smaller charts; after the smallest come the largest."""
        index = CHART_SIZES.index(self.size) + 1
        return dataclasses.replace(self, size=CHART_SIZES[index % len(CHART_SIZES)])


def _logs(window: Window, limits: Limits) -> tuple[float, float, float, float]:
    def of(x: float) -> float:
        return math.log(max(x - window.origin, window.least))

    return of(window.first), of(window.last), of(limits[0]), of(limits[1])


def _from_logs(window: Window, first: float, last: float, limits: Limits) -> Window:
    """A window between two logarithms; the ends of what there is are met exactly."""
    bottom, top = _logs(window, limits)[2:]
    low = limits[0] if first <= bottom + 1e-9 else window.origin + math.exp(first)
    high = limits[1] if last >= top - 1e-9 else window.origin + math.exp(last)
    if window.kind in WHOLE:
        low, high = float(round(low)), float(round(high))
        if high - low < 8:
            high = min(limits[1], low + 8)
            low = max(limits[0], high - 8)
    return dataclasses.replace(window, first=max(low, limits[0]), last=min(high, limits[1]))


def _zoom_log(window: Window, factor: float, at: float, limits: Limits) -> Window:
    first, last, bottom, top = _logs(window, limits)
    place = math.log(max(at - window.origin, window.least))
    span = last - first
    share = (min(max(place, first), last) - first) / span if span > 0 else 0.5
    new = min(max(span * factor, 1e-6), top - bottom)
    begin = min(max(place - share * new, bottom), top - new)
    return _from_logs(window, begin, begin + new, limits)


def _pan_log(window: Window, share: float, limits: Limits) -> Window:
    first, last, bottom, top = _logs(window, limits)
    span = last - first
    begin = min(max(first + share * span, bottom), max(bottom, top - span))
    return _from_logs(window, begin, begin + span, limits)
