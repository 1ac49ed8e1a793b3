"""Following one run closely: its metrics, events, checkpoints, log and configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monitor.data.foreign_follower import ForeignFiles, ForeignMetrics
from monitor.data.main_metric import main_key
from monitor.data.metrics_follower import LONG, MetricsFollower, start_helper
from monitor.data.pyramid import DIRECT, Pyramid, Pyramids
from monitor.data.run_files import RunFiles, protected
from monitor.data.values import finite
from monitor.data.views import RunDetail, RunView
from shared.foreign.guarded import open_reader
from shared.foreign.interface import Found
from shared.run.directory import RunDirectory
from shared.run.metrics_log import QUIET, TIME, MetricsTable
from shared.run.metrics_rows import Series
from shared.run.records import PhaseTransition
from shared.text import one_line, plural

if TYPE_CHECKING:
    from monitor.data.bulk import Helper

_FIRST = ("loss", "val_loss")
_MAX_STEP_KEYS = 4  # named
_NOTHING = (np.empty(0, np.int64), np.empty(0, np.float64))


class RunFollower:
    """Reads what is new in one run, a slice at a time, and makes a `RunDetail` of it.

    See `MetricsFollower` for how long metrics are read. A series has a pyramid from `pyramids_from`
    values on: shorter ones, of which there may be hundreds, are drawn as quickly without one.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        long: int = LONG,
        helper: Callable[[Path], Helper | None] = start_helper,
        quiet: float = QUIET,
        pyramids_from: int = DIRECT,
        foreign: tuple[str, Found] | None = None,
    ) -> None:
        """`foreign` is the id of a run of another tool, and where it is."""
        self.run = run
        self.run_id = run.run_id if foreign is None else foreign[0]
        self._pyramids_from = pyramids_from
        self._metrics: MetricsFollower | ForeignMetrics
        self._files: RunFiles | ForeignFiles
        if foreign is None:
            self._metrics = MetricsFollower(run.metrics_path, long=long, helper=helper, quiet=quiet)
            self._files = RunFiles(run)
        else:
            reader = open_reader(foreign[1])
            self._metrics = ForeignMetrics(reader, foreign[1].format)
            self._files = ForeignFiles(reader)
        self._pyramids = Pyramids()
        self._detail: RunDetail | None = None
        #: Whether somebody has asked for the detail yet.
        self.seen = False

    @property
    def exact(self) -> bool:
        """False: keep a skim of the metrics, because there is no memory for more."""
        return self._metrics.exact

    @exact.setter
    def exact(self, exact: bool) -> None:
        self._metrics.exact = exact

    @property
    def more(self) -> bool:
        """Whether the next `poll` has something to read."""
        return self._metrics.more or self._files.more

    @property
    def complete(self) -> bool:
        """Whether the series hold the whole file rather than a skim."""
        return self._metrics.skim is None

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its series and their pyramids take."""
        return self._metrics.nbytes

    @property
    def expected_nbytes(self) -> int:
        """About how many bytes of memory it will take once it has read everything."""
        return self._metrics.expected_nbytes

    def poll(self) -> bool:
        """Read one slice of everything; True when something changed."""
        return self.poll_metrics() | self.poll_rest()

    def poll_metrics(self) -> bool:
        """Read one slice of the metrics; True when something changed."""
        return self._changed(self._metrics.poll())

    def poll_rest(self) -> bool:
        """Read what is new beside the metrics; True when something changed."""
        return self._changed(self._files.poll())

    def _changed(self, changed: bool) -> bool:
        if changed:
            self._detail = None
        return changed

    def release(self) -> None:
        """Release the memory of long series until they are drawn again."""
        self._metrics.release()

    def close(self) -> None:
        """End what helps to read."""
        self._metrics.close()

    def detail(self) -> RunDetail:
        """The current detail of the run; the same object while nothing changed."""
        self.seen = True
        if self._detail is None:
            self._detail = self._make_detail()
        return self._detail

    def _make_detail(self) -> RunDetail:
        metrics, files = self._metrics, self._files
        skim, facts = metrics.skim, metrics.table.facts
        found = _series(metrics.table) if skim is None else skim.series
        shown = _shown_series({key: found[key] for key in (*_FIRST, *found) if key in found})
        front = facts.given_up_after if skim is None else skim.given_up_after
        series, abandoned = _without_abandoned(shown, front)
        main = main_key(series)
        return RunDetail(
            run_id=self.run_id,
            loss=series.get(main) or Series(main, *_NOTHING),
            val_loss=series.get("val_loss") or Series("val_loss", *_NOTHING),
            series=series,
            abandoned=abandoned,
            given_up_after=front if abandoned else None,
            read_as=self._read_as(),
            unread=self._unread(),
            transitions=_transitions(facts.phases),
            halts=tuple(files.halts),
            pyramids=self._make_pyramids(series),
            approximate=skim is not None,
            version=metrics.version,
            loading=metrics.share_read if metrics.loading else None,
            bad_lines=metrics.table.bad_lines,
            newest=self._newest(series),
            checkpoints=files.checkpoints,
            events=tuple(files.events),
            log_lines=files.log_lines,
            config_lines=files.config_lines,
            config=files.config,
            samples=tuple(files.samples),
            answers=files.answers,
            stages=files.stages,
            suites=files.suites,
            protected=protected(files.checkpoints),
            uploads=files.uploads,
        )

    def _make_pyramids(self, series: Mapping[str, Series]) -> dict[str, Pyramid]:
        pyramids: dict[str, Pyramid] = {}
        for key, one in series.items():
            if key != TIME and len(one) >= self._pyramids_from:
                pyramids[key] = self._pyramids.of(one)
                if self._metrics.came_through:
                    self.release()  # every number of it was read
        self._metrics.came_through = False
        return pyramids

    def _read_as(self) -> str:
        """How the file was read, where that is not a matter of course."""
        facts, form = self._metrics.table.facts, self._metrics.form
        parts = [form.name] if form.name else []
        if facts.step_keys:
            keys = ", ".join(one_line(key, 60) for key in facts.step_keys[:_MAX_STEP_KEYS])
            parts.append(f"steps from {keys}")
        if facts.rounded:
            parts.append(f"{plural(facts.rounded, 'step')} rounded down")
        return "; ".join(parts)

    def _unread(self) -> str:
        facts, problem = self._metrics.table.facts, self._metrics.form.problem
        return "; ".join(part for part in (problem, facts.told()) if part)

    def _newest(self, series: Mapping[str, Series]) -> dict[str, float]:
        """The numbers of the last record; for a skim the last value of each series."""
        if self._metrics.skim is not None:
            return {one_line(k, 60): float(s.values[-1]) for k, s in series.items() if len(s)}
        return {
            one_line(key, 60): number
            for key, value in list(self._metrics.table.last_record.items())[:200]
            if (number := finite(value)) is not None
        }


def follower_of(view: RunView) -> RunFollower:
    """What follows a run of the list."""
    foreign = None if view.foreign is None else (view.run_id, view.foreign)
    return RunFollower(RunDirectory(view.path), foreign=foreign)


def _series(table: MetricsTable) -> dict[str, Series]:
    found = {key: table.series(key) for key in table.keys()}  # noqa: SIM118  not a dict
    clock = table.series(TIME)
    return {**found, TIME: clock} if len(clock) else found


def _without_abandoned(
    series: Mapping[str, Series], front: int | None
) -> tuple[dict[str, Series], dict[str, Series]]:
    """The series up to step `front`, and what comes after it."""
    if front is None:
        return dict(series), {}
    kept: dict[str, Series] = {}
    rest: dict[str, Series] = {}
    for key, one in series.items():
        at = int(np.searchsorted(one.steps, front, "right"))
        if at:
            kept[key] = Series(key, one.steps[:at], one.values[:at])
        if at < len(one):
            rest[key] = Series(key, one.steps[at:], one.values[at:])
    return kept, rest


def _transitions(phases: Iterable[tuple[int, str]]) -> tuple[PhaseTransition, ...]:
    found: list[PhaseTransition] = []
    before = ""
    for step, name in phases:
        shown = one_line(name, 40)
        found.append(PhaseTransition(step, before, shown, 0.0))
        before = shown
    return tuple(found)


def _shown_series(series: Mapping[str, Series]) -> dict[str, Series]:
    """The same with keys that are safe to show; keys that become equal are numbered."""
    found: dict[str, Series] = {}
    for key, one in series.items():
        name = base = one_line(key, 80) or "?"
        number = 2
        while name in found:
            name, number = f"{base} ({number})", number + 1
        found[name] = one if name == key else Series(name, one.steps, one.values)
    return found
