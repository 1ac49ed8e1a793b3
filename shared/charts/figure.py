"""A chart, described: every renderer (the terminal, SVG, PNG) draws the same `Figure`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.charts.marks import Mark
from shared.charts.phases import Band
from shared.charts.reduce import Envelope, reduce_between
from shared.charts.scale import ValueScale
from shared.charts.window import Window
from shared.run.foreign import MAX_STEP
from shared.run.metrics_rows import Floats, Ints, Series

#: Bands that change more often than every so many columns are only noise.
_LEAST_BAND = 3


class Points(Protocol):
    """A series that can tell the extremes of any part of it."""

    @property
    def series(self) -> Series:
        """The raw values."""

    def __len__(self) -> int: ...

    def between(self, bounds: NDArray[np.intp]) -> Envelope:
        """The extremes of `series.values[bounds[i]:bounds[i + 1]]` for every column i."""


@dataclass(frozen=True, eq=False)
class RawPoints:
    """`Points` that look at every value each time. The monitor has a faster kind: `Pyramid`."""

    series: Series

    def __len__(self) -> int:
        return len(self.series)

    def between(self, bounds: NDArray[np.intp]) -> Envelope:
        """See `Points.between`."""
        return reduce_between(self.series.values, bounds)


@dataclass(frozen=True, eq=False)
class Curve:
    """One series in the colour named `ink`.

    `x` is the x of every value, None for its step. `smooth`, of the same length, is its moving
    average, or the mean in the band of its spread. No legend gives a value of an `abandoned` one:
    it is of an attempt that was given up.
    """

    label: str
    ink: str
    points: Points
    x: Floats | Ints | None = None
    smooth: Floats | None = None
    abandoned: bool = False

    @property
    def places(self) -> Floats | Ints:
        """The x of every value."""
        return self.points.series.steps if self.x is None else self.x

    def find(self, x: Floats | Ints) -> NDArray[np.intp]:
        """The index of the first value that is not left of each x."""
        places = self.places
        if places.dtype != x.dtype and places.dtype.kind == "i":
            # Otherwise numpy turns every place into a float for a look at a few of them.
            whole = np.ceil(np.clip(x, -MAX_STEP, MAX_STEP)).astype(np.int64)
            return np.searchsorted(places, whole)
        return np.searchsorted(places, x)


@dataclass(frozen=True, eq=False)
class Figure:
    """A chart of `curves` over the part of the x axis in `window`.

    `log_y=None` chooses the scale by the values (see `ValueScale.fit`), `whole` keeps outliers
    inside it. `y_name` is the name of the value axis, `smoothing` the weight of the moving
    average, 0 for none.
    """

    curves: Sequence[Curve]
    window: Window
    title: str = ""
    y_name: str = ""
    log_y: bool | None = False
    whole: bool = False
    smoothing: float = 0.0
    bands: Sequence[Band] = ()
    marks: Sequence[Mark] = ()

    @property
    def is_smoothed(self) -> bool:
        """Whether any curve has a moving average."""
        return self.smoothing > 0 and any(curve.smooth is not None for curve in self.curves)

    def scale(self, envelopes: Iterable[Envelope]) -> ValueScale:
        """The value axis for curves with these extremes."""
        return ValueScale.fit(envelopes, log=self.log_y, whole=self.whole)

    def bands_of(self, columns: int) -> list[Band | None]:
        """The band at the end of each of so many columns; None before the first."""
        if not self.bands:
            return [None] * columns
        ordered = sorted(self.bands, key=lambda band: band.start)
        ends = self.window.edges(columns)[1:]
        index = np.searchsorted([band.start for band in ordered], ends, "left") - 1
        return [ordered[i] if i >= 0 else None for i in index.tolist()]


def is_readable(bands: Sequence[Band | None]) -> bool:
    """Whether the bands of the columns are a sensible background: several, each wide enough."""
    inks = [band.ink if band else "" for band in bands]
    changes = sum(a != b for a, b in itertools.pairwise(inks))
    return 0 < changes * _LEAST_BAND <= len(inks)


def whole_window(curves: Sequence[Curve]) -> Window:
    """The steps from the first to the last value of all `curves`."""
    filled = [curve.places for curve in curves if len(curve.points)]
    if not filled:
        return Window(0, 0)
    return Window(float(min(x[0] for x in filled)), float(max(x[-1] for x in filled)))
