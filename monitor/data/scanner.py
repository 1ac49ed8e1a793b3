"""Looking over all runs of a folder: their states and signs of life, little more."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitor.data.foreign_runs import ForeignRuns
from monitor.data.groups import best_runs
from monitor.data.run_view import (
    Judge,
    is_closed,
    view_of,
    view_of_closed,
    view_without_state,
    why_unreadable,
)
from monitor.data.sparkline import sparkline
from monitor.data.tails import Signature, file_signature, metrics_signature, whole_size
from monitor.data.views import RunView
from shared.control.daemons import watching
from shared.foreign.interface import Found
from shared.json_text import Json
from shared.library.labels import LABELS, Labels, read_labels
from shared.ownership.health import observe
from shared.ownership.heartbeat import BeatWatch
from shared.run.directory import RunDirectory, is_run
from shared.run.newest_record import newest_records
from shared.run.records import ACTIVE_STATUSES, RunState
from shared.run.sketch import sketch_path

_SPARK_AGAIN = 10.0  # seconds between two sparklines of one run
_RESTING = 50  # runs at rest, looked at each time
_LISTED_AGAIN = 10.0  # seconds; where a folder's time does not tell of new runs
_DAEMON_AGAIN = 5.0  # seconds between looks for a daemon


@dataclass(eq=False)
class _Known:
    """What is remembered of one run between looks."""

    run: RunDirectory
    signature: Signature | None = None
    state: RunState = field(default_factory=RunState)
    #: Of a run without a state: the metrics that were read last, and their newest records.
    metrics_seen: Signature | None = None
    newest: list[Json] = field(default_factory=list)
    #: As the state and the signs of life have it; `view` has labels and sparkline too.
    bare: RunView | None = None
    view: RunView | None = None
    watch: BeatWatch = field(default_factory=BeatWatch)
    labels: Labels = field(default_factory=Labels)
    labels_seen: Signature | None = None
    spark: tuple[float, ...] = ()
    #: Size of the metrics when the sparkline was made, -1 for never, and when (monotonic).
    spark_size: int = -1
    spark_at: float = -math.inf
    spark_due: bool = True
    #: Whether its setting is the best of its group.
    best: bool = False

    def __post_init__(self) -> None:
        # Of many runs even joining paths takes longer than looking at them.
        self._state_path = str(self.run.state_path)
        self._metrics_path = str(self.run.metrics_path)
        self._sketch_path = str(sketch_path(self.run.metrics_path))
        self._labels_path = str(self.run.path / LABELS)

    @property
    def rests(self) -> bool:
        """Whether its state stays as it is until somebody starts it again."""
        view = self.bare
        if view is None or view.alive:
            return False
        if self.signature is None:
            return self.metrics_seen is not None and view.status == "idle"
        return self.state.status not in ACTIVE_STATUSES

    def is_unchanged(self) -> bool:
        """Whether its files are those that were read last."""
        return (
            file_signature(self._state_path) == self.signature
            and (
                self.signature is not None  # else as `metrics_signature`
                or (file_signature(self._sketch_path) or file_signature(self._metrics_path))
                == self.metrics_seen
            )
            and file_signature(self._labels_path) == self.labels_seen
        )


class RunScanner:
    """Looks at every run of `runs_dir`.

    Active runs are read each time; of the others so many that all are read within
    seconds, two stats for each. Sparklines are made afterwards, by `draw_sparklines`.
    """

    def __init__(
        self,
        runs_dir: Path,
        clock: Callable[[], float],
        *,
        only: Sequence[Found] | None = None,
        judge: Judge = observe,
    ) -> None:
        """`only` are runs of other tools in a file, which are then all there are."""
        self._only = only
        self._runs_dir = runs_dir
        self._clock = clock
        self._judge = judge
        self._known: dict[str, _Known] = {}
        self._views: tuple[RunView, ...] = ()
        self._listed: tuple[int, float] | None = None
        self._others: list[str] = []
        self._new = False
        self._at_work: list[_Known] = []
        self._resting: list[_Known] = []
        self._turn = 0
        self._watched = False
        self._watched_at = -_DAEMON_AGAIN
        self._foreign = ForeignRuns(runs_dir, only=only)

    def scan(self, closely: Collection[str] = (), *, fresh: bool = False) -> tuple[RunView, ...]:
        """Every run, active ones first, then the newest; the same object if none changed.

        `closely` are the ids of more runs to look at this time; `fresh` looks at all of them.
        Raises OSError when the folder cannot be read.
        """
        changed = self._only is None and self._list_runs(fresh=fresh)
        now = self._clock()
        changed |= self._foreign.scan(now, fresh=fresh, own=self._known)
        for known in self._chosen(closely, fresh=fresh):
            if known.rests and known.is_unchanged():
                continue
            before = known.view
            if not self._look(known, now):
                del self._known[known.run.run_id]
                self._listed = None
                changed = True
            else:
                changed |= known.view is not before
        if changed:
            self._mark_best()
            views = (k.view for k in self._known.values() if k.view is not None)
            self._views = tuple(sorted((*views, *self._foreign.views), key=_rank))
            self._at_work = [k for k in self._known.values() if not k.rests]
            self._resting = [k for k in self._known.values() if k.rests]
        return self._views

    def _mark_best(self) -> None:
        """Renew the views of runs that became, or are no longer, among the best of their group."""
        best = best_runs(k.view for k in self._known.values() if k.view is not None)
        for run_id, known in self._known.items():
            if known.best != (run_id in best):
                known.best = run_id in best
                known.view = _labelled(known)

    def _chosen(self, closely: Collection[str], *, fresh: bool) -> list[_Known]:
        """The runs to look at this time."""
        resting = self._resting
        if not fresh and len(resting) > _RESTING:
            start = self._turn if self._turn < len(resting) else 0
            self._turn = start + _RESTING
            resting = resting[start : start + _RESTING]
            resting += [k for i in closely if (k := self._known.get(i)) and k not in resting]
        new = [k for k in self._known.values() if k.view is None] if self._new else []
        self._new = False
        return [*new, *self._at_work, *resting]

    def _list_runs(self, *, fresh: bool) -> bool:
        """Take up new folders and forget those that are gone; True when there are some."""
        tick = time.monotonic()
        changed_at = self._runs_dir.stat().st_mtime_ns
        if fresh or self._listed is None or self._listed[0] != changed_at:
            listed = True
        else:
            listed = tick - self._listed[1] > _LISTED_AGAIN
        gone: list[str] = []
        if listed:
            names = {name for name in os.listdir(self._runs_dir) if not name.startswith(".")}  # noqa: PTH208
            self._listed = (changed_at, tick)
            gone = [run_id for run_id in self._known if run_id not in names]
            for run_id in gone:
                del self._known[run_id]
            self._others = [name for name in names if name not in self._known]
        # A folder becomes a run with its first file: a moment after it was made, or never.
        watched = self._others if listed else self._others[:_RESTING]
        for name in sorted(watched):
            run = RunDirectory(self._runs_dir / name)
            if is_run(run) or is_closed(run):
                self._known[name] = _Known(run)
                self._others.remove(name)
                self._new = True
        if gone:
            self._at_work = [k for k in self._at_work if k.run.run_id not in gone]
            self._resting = [k for k in self._resting if k.run.run_id not in gone]
        return self._new or bool(gone)

    def _look(self, known: _Known, now: float) -> bool:
        """Renew what is known of one run; False when it is no run any more."""
        run = known.run
        signature = file_signature(run.state_path)
        if signature is None and not is_run(run):
            if not is_closed(run):
                return False
            known.signature, known.state = None, RunState()
            known.bare = known.bare or view_of_closed(run)
            known.view = known.view or known.bare
            return True
        old, before = known.bare, known.view
        rests = known.rests
        if signature is None or signature != known.signature:
            state = run.read_state() if signature else None
            if state is not None:
                known.signature, known.state = signature, state
                known.bare = view_of(run, state, now, known.watch, judge=self._judge)
                known.spark_due = True
            elif signature is None or old is None:
                known.signature, known.state = None, RunState()
                _read_newest(known)
                found = view_without_state(run, known.newest, now)
                # Compared as text: NaN is equal to itself there.
                known.bare = old if repr(found) == repr(old) else found
            else:
                # A writer that does not replace its file atomically was caught in the middle.
                known.signature = None
        elif not rests:
            known.bare = view_of(run, known.state, now, known.watch, old, judge=self._judge)
        labelled = file_signature(run.path / LABELS)
        if labelled != known.labels_seen:
            known.labels = read_labels(run) if labelled else Labels()
            # A file that says nothing could perhaps not be read: look again.
            known.labels_seen = None if known.labels == Labels() else labelled
            known.view = None
        if known.view is None or known.bare is not old:
            view = _labelled(known)
            known.view = before if before == view else view
        return True

    def draw_sparklines(
        self, seconds: float, only: Collection[str] | None = None
    ) -> tuple[bool, bool]:
        """Renew sparklines, or `only` those, for so long; (some changed, more are due)."""
        deadline = time.monotonic() + seconds
        changed = False
        due = [known for known in self._known.values() if known.spark_due]
        for known in due:
            if only is not None and known.run.run_id not in only:
                continue
            if not self._may_draw(known):
                continue
            spark = sparkline(known.run.metrics_path)
            known.spark_due = not spark and known.spark_size > 0  # it could perhaps not be read
            if repr(spark) != repr(known.spark):  # NaN is equal to itself here
                known.spark = spark
                known.view = _labelled(known)
                changed = True
            if time.monotonic() >= deadline:
                return self._replaced(changed), True
        return self._replaced(changed), False

    def _may_draw(self, known: _Known) -> bool:
        """Whether its metrics have grown so much that the sparkline is another one."""
        size = whole_size(known.run.metrics_path)
        tick = time.monotonic()
        if size == known.spark_size and (known.spark or not size):
            known.spark_due = False
            return False
        if tick - known.spark_at < _SPARK_AGAIN:
            return False
        known.spark_size, known.spark_at = size, tick
        return True

    def _replaced(self, changed: bool) -> bool:
        if changed:
            known = self._known
            views = ((known[v.run_id].view or v) if v.run_id in known else v for v in self._views)
            self._views = tuple(views)
        return changed

    def is_watched(self) -> bool:
        """Whether a daemon is at work in the folder, as of a few seconds ago."""
        tick = time.monotonic()
        if tick - self._watched_at >= _DAEMON_AGAIN:
            self._watched_at, self._watched = tick, bool(watching(self._runs_dir))
        return self._watched

    def read_foreign(self) -> None:
        """Read the runs of other tools to their ends, however long that takes."""
        while self._foreign.more:
            self.scan()

    @property
    def notice(self) -> str:
        """See `Snapshot.notice`."""
        return self._foreign.notice

    @property
    def views(self) -> tuple[RunView, ...]:
        """What the last scan gave, with the sparklines made since."""
        return self._views


def _labelled(known: _Known) -> RunView:
    """The view of a run with what people say of it, and its sparkline."""
    assert known.bare is not None
    labels = known.labels
    if not known.spark and labels == Labels() and not known.best:
        return known.bare
    return dataclasses.replace(
        known.bare,
        label=labels.name or known.bare.label,
        tags=labels.tags,
        note_text=labels.note,
        archived=labels.archived,
        sparkline=known.spark,
        is_best=known.best,
    )


def _rank(view: RunView) -> tuple[bool, float, str]:
    at_work = view.alive or view.status in ACTIVE_STATUSES
    return not at_work, -(view.started_at or 0.0), view.run_id


def _read_newest(known: _Known) -> None:
    """The newest records of a run without a state, read again only where the file is another."""
    run = known.run
    seen = metrics_signature(run.metrics_path)
    if seen is not None and seen == known.metrics_seen:
        return
    known.newest = newest_records(run.metrics_path)
    # Perhaps it could not be read: look again.
    known.metrics_seen = seen if known.newest or not why_unreadable(run) else None
    known.spark_due = True
