"""A run in outline, for the table of runs: its configuration, and the extremes of its metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monitor.data.skim import skim
from monitor.data.tails import Signature, file_signature, metrics_signature
from shared.files import open_file
from shared.run.config import flat_config
from shared.run.directory import RunDirectory
from shared.run.metrics_log import TIME, MetricsReader, MetricsTable
from shared.run.metrics_rows import Series
from shared.run.sketch import sketched_size
from shared.text import one_line

MAX_CONFIG = 64 << 10
MAX_METRICS = 1_000  # of one run
WHOLE = 256 << 10  # bytes of metrics up to which an outline is exact at once
EXACT = 64 << 20  # bytes up to which it is made exact afterwards


@dataclass(frozen=True)
class Extent:
    """The last value of a metric, and the least and the greatest of its finite ones."""

    last: float
    least: float | None = None
    greatest: float | None = None


@dataclass(frozen=True)
class Outline:
    """What the table knows of a run beside its state. Keys and values are safe to show.

    While `approximate`, the extents are those of evenly spaced records of a long log.
    """

    config: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Extent] = field(default_factory=dict)
    approximate: bool = False
    config_seen: Signature | None = None
    metrics_seen: Signature | None = None
    has_metrics: bool = False
    #: Whether only the beginning of the log is here.
    sketched: bool = False

    @property
    def can_be_exact(self) -> bool:
        """Whether it is worth reading the whole log."""
        seen = self.metrics_seen
        return self.approximate and not self.sketched and seen is not None and seen[1] <= EXACT


def read_outline(
    run: RunDirectory, known: Outline | None = None, *, metrics: bool = True, exact: bool = False
) -> Outline:
    """The outline of `run`; `known` itself if it tells the same.

    Without `metrics` only the configuration is read. A long log is skimmed, unless the outline is
    to be `exact`.
    """
    found = known or Outline()
    seen = file_signature(run.config_path)
    if known is None or known.config_seen != seen:
        found = dataclasses.replace(found, config=_config(run.config_path), config_seen=seen)
    if not metrics:
        return found
    seen = metrics_signature(run.metrics_path)
    if not found.has_metrics or found.metrics_seen != seen or (exact and found.approximate):
        sketched = sketched_size(run.metrics_path) is not None
        extents, approximate = _metrics(run.metrics_path, exact=exact and not sketched)
        found = dataclasses.replace(
            found,
            metrics=extents,
            approximate=approximate,
            metrics_seen=seen,
            has_metrics=True,
            sketched=sketched,
        )
    return found


def _config(path: Path) -> Mapping[str, str]:
    try:
        with open_file(path) as file:
            return flat_config(file.read(MAX_CONFIG).decode("utf-8", "replace"))
    except OSError:
        return {}


def _metrics(path: Path, *, exact: bool) -> tuple[Mapping[str, Extent], bool]:
    """The extents of every metric, without an attempt that was given up; whether approximate."""
    if exact:
        table = MetricsReader(path).read_all()
        series = [table.series(key) for key in table.keys()[:MAX_METRICS]]
        front, approximate = table.facts.given_up_after, False
    else:
        found = skim(path, small=WHOLE)
        series = [s for s in found.series.values() if s.key != TIME][:MAX_METRICS]
        front, approximate = found.given_up_after, found.approximate
    extents = {one_line(s.key, 120): extent for s in series if (extent := _extent(s, front))}
    return extents, approximate


class Extents:
    """The extents of every metric of a table that grows: of each, only what is new is looked at."""

    def __init__(self) -> None:
        self._table: MetricsTable | None = None
        self._known: dict[str, _Known] = {}
        self._detours = -1

    def of(self, table: MetricsTable) -> Mapping[str, Extent]:
        """The extents in `table`, without a pass that was given up."""
        front = table.facts.given_up_after
        detours = table.detours
        if table is not self._table or front is not None or detours != self._detours:
            self._known = {}  # values that were there may be others now
        self._table, self._detours = table, detours if front is None else -1
        found: dict[str, Extent] = {}
        for key in table.keys()[:MAX_METRICS]:
            series = table.series(key)
            known = self._known.get(key)
            if known is None or not known.is_of(series):
                known = _Known(one_line(key, 120), 0, -1, None)
            if known.extent is None or known.count < len(series):
                known = known.extended(series, front)
                self._known[key] = known
            if known.extent is not None:
                found.setdefault(known.name, known.extent)
        return found


@dataclass(frozen=True)
class _Known:
    """The extent of the first `count` values of a series, of which the last is at `step`."""

    name: str
    count: int
    step: int
    extent: Extent | None

    def is_of(self, series: Series) -> bool:
        """Whether the series begins with these values, as far as is seen at the last of them."""
        at = self.count - 1
        if self.extent is None or len(series) < self.count or series.steps[at] != self.step:
            return False
        return repr(float(series.values[at])) == repr(self.extent.last)  # NaN is equal there

    def extended(self, series: Series, front: int | None) -> _Known:
        """The same with what has been added to the series."""
        if not len(series):
            return self
        added = Series(series.key, series.steps[self.count :], series.values[self.count :])
        extent = _extent(added, front)
        if extent is not None and self.extent is not None:
            extent = _joined(self.extent, extent)
        return _Known(self.name, len(series), int(series.steps[-1]), extent or self.extent)


def _joined(first: Extent, then: Extent) -> Extent:
    least = [value for value in (first.least, then.least) if value is not None]
    greatest = [value for value in (first.greatest, then.greatest) if value is not None]
    return Extent(then.last, min(least, default=None), max(greatest, default=None))


def _extent(series: Series, front: int | None) -> Extent | None:
    end = len(series)
    if front is not None:
        end = int(np.searchsorted(series.steps, front, "right"))
    values = series.values[:end]
    if not len(values):
        return None
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Extent(float(values[-1]))
    return Extent(float(values[-1]), float(finite.min()), float(finite.max()))
