"""The visible part of the x axis: its columns, its ticks, zooming and panning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.charts.labels import number, short_count, short_duration
from shared.charts.reduce import step_edges
from shared.charts.ticks import count_log_ticks, nice_ticks, time_ticks, value_log_ticks
from shared.run.metrics_rows import Floats, Ints

#: What x is: steps, steps since the first of the run, seconds since its start, the same without the
#: time in which nobody trained, tokens, or the values of a metric.
Kind = Literal["step", "relative", "time", "training", "tokens", "metric"]
WHOLE: frozenset[Kind] = frozenset({"step", "relative"})  # whole numbers
TIMES: frozenset[Kind] = frozenset({"time", "training"})
_NAMES: dict[Kind, str] = {
    "relative": "steps since the start",
    "training": "time without pauses",
}

_COLUMNS_PER_TICK = 12
_ROOMY = 12  # columns with room for several labels
_DAY = 86400
_LARGE, _COUNTABLE = 10_000, 1e15  # counts of a metric: 2M is easier to read than 2e6
_DIGITS = 4
_UNITS = ((_DAY, "d"), (3600, "h"), (60, "m"))
_PLACES = 40.0  # labels tell so many places apart: more than ticks, fewer than columns
_FINEST = 1e-6  # seconds; Unix time in a float is hardly more precise
_DECADES = 1e-6  # of the greatest value, where a logarithmic axis of a metric begins at the latest


def least_on_log(kind: Kind, low: float, high: float) -> float | None:
    """Where a logarithmic axis over x from `low` to `high` begins; None where it cannot be."""
    if kind != "metric":
        return 1.0
    if high <= 0:
        return None
    return low if low > 0 else high * _DECADES


@dataclass(frozen=True)
class Window:
    """x from `first` to `last`, both included; whole numbers where `kind` counts steps.

    `log` spaces the columns evenly in log(x - origin); everything below `least` is in the first
    column. Times are labelled as seconds since `origin`. `metric` names that of kind "metric".
    """

    first: float
    last: float
    kind: Kind = "step"
    log: bool = False
    origin: float = 0.0
    least: float = 1.0
    metric: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether every x is a whole number."""
        return self.kind in WHOLE

    @property
    def name(self) -> str:
        """What the axis shows."""
        return self.metric or _NAMES.get(self.kind, self.kind)

    def edges(self, columns: int) -> Ints | Floats:
        """The start of each column and the end of the last one: shape (columns + 1,).

        Column i holds edges[i] <= x < edges[i + 1], so `searchsorted(x, edges)` bounds it.
        """
        if self.log:
            return self._log_edges(columns)
        if self.is_whole:
            return step_edges(int(self.first), int(self.last), columns)
        edges: Floats = np.linspace(self.first, self.last, columns + 1)
        edges[-1] = np.nextafter(self.last, np.inf)
        return edges

    def _log_edges(self, columns: int) -> Ints | Floats:
        last = self.last - self.origin + (self.is_whole)
        first = min(max(self.first - self.origin, self.least), last)
        powers = np.geomspace(max(first, 1e-300), max(last, 1e-300), columns + 1)
        edges: Floats = self.origin + powers
        if self.is_whole:
            edges = np.ceil(edges - 1e-9 * edges)
        edges[0] = min(self.first, edges[0])
        edges[-1] = self.last + 1 if self.is_whole else np.nextafter(self.last, np.inf)
        edges = np.minimum(np.maximum.accumulate(edges), edges[-1])
        return edges.astype(np.int64) if self.is_whole else edges

    def columns_of(self, x: Sequence[float] | NDArray[np.float64], columns: int) -> Ints:
        """The column in which each x is drawn; -1 if it is outside the window."""
        at = np.asarray(x, np.float64)
        found = np.searchsorted(self.edges(columns), at, "right").astype(np.int64) - 1
        return np.where((at >= self.first) & (at <= self.last) & (found < columns), found, -1)

    def positions(self, x: Floats | Ints) -> Floats:
        """Where each x lies: 0 at the left end of the window, 1 at its right end."""
        at = np.asarray(x, np.float64) - self.origin
        first, last = self.first - self.origin, self.last - self.origin
        if self.log:
            first = min(max(first, self.least), max(last, 1e-300))
            at = np.log10(np.maximum(at, first))
            first, last = math.log10(first), math.log10(max(last, first))
        span = last - first
        return (at - first) / span if span > 0 else np.full(len(at), 0.5)

    def ticks(self, columns: int) -> list[float]:
        """Round places to label; both ends if there are none."""
        count = max(1, columns // _COLUMNS_PER_TICK)
        low, high = self.first - self.origin, self.last - self.origin
        if self.log:
            ticks = self._log_ticks(low, high, count)
            if columns >= _ROOMY and sum(low <= t <= high for t in ticks) < 2:  # less than a decade
                ticks = nice_ticks(low, high, max(count, 4))
        elif self.kind in TIMES:
            ticks = time_ticks(low, high, count)
        else:
            ticks = nice_ticks(low, high, count)
        if self.is_whole:
            ticks = [float(int(t)) for t in ticks]
        ticks = sorted({t + self.origin for t in ticks if low <= t <= high})
        return ticks if len(ticks) > 1 else sorted({self.first, self.last})

    def _log_ticks(self, low: float, high: float, count: int) -> list[float]:
        if self.kind != "metric":
            return count_log_ticks(low, high, count)
        low = max(low, self.least)
        return value_log_ticks(math.log10(low), math.log10(high), count) if low < high else []

    def label(self, x: float) -> str:
        """The label of a place, as precise as the width of this window requires."""
        if self.kind == "metric":
            return self._value(x)
        if self.kind not in TIMES:
            return short_count(x - self.origin)
        seconds = x - self.origin
        if self.log:  # its ticks are powers of ten
            return short_duration(seconds)
        # At least two units, however wide the window is: 10d5h, 5h32m.
        finest = min((self.last - self.first) / _PLACES, abs(seconds) / 24)
        return _duration(seconds, _unit(finest))

    def exact(self, x: float) -> str:
        """A place on the axis, written in full."""
        if self.kind in TIMES:
            return self.label(x)
        if self.kind == "metric":
            return f"{self.metric} {self._value(x)}"
        unit = {"step": "step ", "relative": "step +"}.get(self.kind, "")
        return f"{unit}{round(x - self.origin):,}" + (" tokens" if self.kind == "tokens" else "")

    def _value(self, x: float) -> str:
        """A value of a metric, with the digits that tell the places of this window apart."""
        span, largest = self.last - self.first, max(abs(self.first), abs(self.last))
        if largest >= _LARGE and abs(x) < _COUNTABLE and span >= _PLACES and x == round(x):
            return short_count(x)
        more = math.ceil(math.log10(largest / span)) if span > 0 and largest > 0 else 0
        return number(x, min(15, max(_DIGITS, 2 + more)))

    # -- zoom and pan ---------------------------------------------------------------------------

    def zoomed(self, factor: float, at: float, limits: tuple[float, float]) -> Window:
        """A window `factor` times as wide (0.5 zooms in) in which `at` keeps its place.

        It stays within `limits` and covers at least eight steps.
        """
        span = self.last - self.first
        least = 8.0 if self.is_whole else max(abs(limits[1]), 1.0) * 1e-12
        new = min(max(span * factor, least), limits[1] - limits[0])
        share = (min(max(at, self.first), self.last) - self.first) / span if span > 0 else 0.5
        first = at - share * new
        return self._within(first, first + new, limits)

    def panned(self, share: float, limits: tuple[float, float]) -> Window:
        """The window moved by this share of its width, within `limits`."""
        moved = share * (self.last - self.first)
        if self.is_whole and moved:
            moved = math.copysign(max(1.0, abs(moved)), moved)
        return self._within(self.first + moved, self.last + moved, limits)

    def _within(self, first: float, last: float, limits: tuple[float, float]) -> Window:
        if self.is_whole:
            span = round(last - first)
            first = float(round(first))
            last = first + span
        if last > limits[1]:
            first, last = first - (last - limits[1]), limits[1]
        if first < limits[0]:
            first, last = limits[0], min(limits[1], last + (limits[0] - first))
        return dataclasses.replace(self, first=first, last=last)


def _unit(seconds: float) -> float:
    """The largest unit up to this: days, hours, minutes, seconds or decimal parts of one."""
    if seconds >= 1:
        return next((float(size) for size, _ in _UNITS if size <= seconds), 1.0)
    return 10.0 ** math.floor(math.log10(max(seconds, _FINEST)))


def _duration(seconds: float, unit: float) -> str:
    """Seconds as 5h32m30s, exact to `unit`, without parts that are zero."""
    decimals = max(0, -round(math.log10(unit)))
    left = round(round(abs(seconds) / unit) * unit, decimals)
    parts = []
    for size, name in _UNITS:
        whole, left = divmod(left, size)
        parts.append((f"{whole:.0f}", name))
    rest = f"{left:.{decimals}f}"
    parts.append((rest.rstrip("0").rstrip(".") if decimals else rest, "s"))
    parts = [(number, name) for number, name in parts if number not in ("", "0")]
    text = "".join(f"{number}{name}" for number, name in parts) or "0s"
    return f"-{text}" if seconds < 0 and parts else text
