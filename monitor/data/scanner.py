"""Looking over all runs of a folder: their states and signs of life, little more."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from monitor.data.main_metric import loss_key, main_key
from monitor.data.skim import is_plain, skim
from monitor.data.values import finite
from monitor.data.views import RunView
from shared.files import open_file
from shared.json_text import Json
from shared.library.labels import LABELS, Labels, read_labels
from shared.ownership.health import observe
from shared.ownership.heartbeat import BeatWatch
from shared.ownership.standing import told_by_metrics, why_idle
from shared.run.directory import RunDirectory, is_run
from shared.run.metrics_columns import as_value
from shared.run.metrics_log import MetricsTable
from shared.run.newest_record import newest_records
from shared.run.record_lines import parse_line, parse_lines
from shared.run.records import ACTIVE_STATUSES, ENDED_STATUSES, PhaseTransition, RunState
from shared.text import many_lines, one_line

_TAIL = 16 << 10
_LONG_TAIL = 1 << 20
_LOG_LINES = 12
#: A run of an hour with a phase change per step must not make every look at it dear.
MAX_TRANSITIONS = 2_000
SPARKS = 24  # values of a sparkline
_WHOLE = 256 << 10  # bytes of metrics up to which a sparkline is made of all lines
_SPARK_AGAIN = 10.0  # seconds between two sparklines of one run
_RESTING = 50  # runs at rest, looked at each time
_LISTED_AGAIN = 10.0  # seconds; where a folder's time does not tell of new runs

Signature = tuple[int, int, int]


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

    def __post_init__(self) -> None:
        # Of many runs even joining paths takes longer than looking at them.
        self._state_path = str(self.run.state_path)
        self._metrics_path = str(self.run.metrics_path)
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
                self.signature is not None
                or file_signature(self._metrics_path) == self.metrics_seen
            )
            and file_signature(self._labels_path) == self.labels_seen
        )


class RunScanner:
    """Looks at every run of `runs_dir`.

    Active runs are read each time; of the others so many that all are read within
    seconds, two stats for each. Sparklines are made afterwards, by `draw_sparklines`.
    """

    def __init__(self, runs_dir: Path, clock: Callable[[], float]) -> None:
        self._runs_dir = runs_dir
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._views: tuple[RunView, ...] = ()
        self._listed: tuple[int, float] | None = None
        self._others: list[str] = []
        self._new = False
        self._at_work: list[_Known] = []
        self._resting: list[_Known] = []
        self._turn = 0

    def scan(self, closely: Collection[str] = (), *, fresh: bool = False) -> tuple[RunView, ...]:
        """Every run, active ones first, then the newest; the same object if none changed.

        `closely` are the ids of more runs to look at this time; `fresh` looks at all of them.
        Raises OSError when the folder cannot be read.
        """
        changed = self._list_runs(fresh=fresh)
        now = self._clock()
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
            views = (k.view for k in self._known.values() if k.view is not None)
            self._views = tuple(sorted(views, key=_rank))
            self._at_work = [k for k in self._known.values() if not k.rests]
            self._resting = [k for k in self._known.values() if k.rests]
        return self._views

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
            known.bare = known.bare or _view_of_closed(run)
            known.view = known.view or known.bare
            return True
        old, before = known.bare, known.view
        rests = known.rests
        if signature is None or signature != known.signature:
            state = run.read_state() if signature else None
            if state is not None:
                known.signature, known.state = signature, state
                known.bare = _view(run, state, now, known.watch)
                known.spark_due = True
            elif signature is None or old is None:
                known.signature, known.state = None, RunState()
                _read_newest(known)
                found = _view_without_state(known, now)
                # Compared as text: NaN is equal to itself there.
                known.bare = old if repr(found) == repr(old) else found
            else:
                # A writer that does not replace its file atomically was caught in the middle.
                known.signature = None
        elif not rests:
            known.bare = _view(run, known.state, now, known.watch, old)
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
        size = _size(known.run.metrics_path)
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
            views = (self._known[v.run_id].view or v for v in self._views)
            self._views = tuple(views)
        return changed

    @property
    def views(self) -> tuple[RunView, ...]:
        """What the last scan gave, with the sparklines made since."""
        return self._views


def _labelled(known: _Known) -> RunView:
    """The view of a run with what people say of it, and its sparkline."""
    assert known.bare is not None
    labels = known.labels
    if not known.spark and labels == Labels():
        return known.bare
    return dataclasses.replace(
        known.bare,
        label=labels.name or known.bare.label,
        tags=labels.tags,
        note_text=labels.note,
        archived=labels.archived,
        sparkline=known.spark,
    )


def sparkline(path: Path) -> tuple[float, ...]:
    """A few losses, evenly spaced over the whole of the metrics; a bounded part of it is read."""
    if _size(path) > _WHOLE or not is_plain(path):
        series = skim(path, 2 * SPARKS).series
    else:
        lines = _tail(path, _WHOLE).replace(b"\r", b"\n").split(b"\n")[:-1]
        table = MetricsTable()
        # Every other one may be of another kind, with no loss in it.
        table.add_records(r for i in _spread(len(lines), 2 * SPARKS) if (r := parse_line(lines[i])))
        series = {key: table.series(key) for key in table.keys()}  # noqa: SIM118  not a dict
    losses = series.get(main_key(series))
    if losses is None:
        return ()
    return tuple(float(losses.values[i]) for i in _spread(len(losses), SPARKS))


def _spread(count: int, most: int) -> list[int]:
    """At most so many of `count` indices, evenly spaced, both ends included."""
    chosen = min(count, most)
    return [i * (count - 1) // max(1, chosen - 1) for i in range(chosen)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def file_signature(path: Path | str) -> Signature | None:
    """What changes whenever the file does; None when there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116  a Path would cost more than the look
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _rank(view: RunView) -> tuple[bool, float, str]:
    at_work = view.alive or view.status in ACTIVE_STATUSES
    return not at_work, -(view.started_at or 0.0), view.run_id


def _view(
    run: RunDirectory, state: RunState, now: float, watch: BeatWatch, old: RunView | None = None
) -> RunView:
    health = observe(run, state, now, watch)
    status, reason = one_line(health.status, 20), one_line(health.reason, 500)
    if old and (old.status, old.reason, old.alive) == (status, reason, health.alive):
        return old
    lines: tuple[str, ...] = ()
    if state.exit and state.exit.last_log_lines:
        lines = tuple(one_line(x, 500) for x in state.exit.last_log_lines[-_LOG_LINES:])
    elif status in ("crashed", "failed"):
        lines = tail_lines(run.log_path)
    model = tuple((one_line(k, 40), one_line(v, 80)) for k, v in list(state.model.items())[:40])
    return RunView(
        run_id=run.run_id,
        path=run.path,
        label=one_line(run.run_id, 120),
        name=one_line(state.run_name or run.run_id, 120),
        status=status,
        reason=reason,
        alive=health.alive,
        step=state.current_step,
        max_steps=state.max_steps,
        loss=state.current_loss,
        best_loss=state.best_loss,
        best_step=state.best_step,
        best_metric=one_line(state.best_metric, 40),
        phase=one_line(state.current_phase, 40),
        transitions=tuple(_clean(t) for t in state.phase_transitions[-MAX_TRANSITIONS:]),
        eta_seconds=state.eta_seconds if state.ended_at is None and health.alive else None,
        tokens_per_second=state.tokens_per_second,
        tokens_total=state.tokens_total,
        total_forward=state.total_forward,
        total_backward=state.total_backward,
        started_at=state.started_at,
        updated_at=state.updated_at,
        ended_at=state.ended_at,
        trained_seconds=state.time_trained,
        host=one_line(state.host, 80),
        pid=state.pid,
        attempt=state.attempt,
        device=one_line(state.device, 80),
        git_commit=one_line(state.git_commit or "", 40),
        model=model,
        exit_code=state.exit.code if state.exit else None,
        last_log_lines=lines,
        # Of a run that has ended, the reason of its end tells.
        alarm=_unreadable(run)
        or ("" if state.status in ENDED_STATUSES else one_line(health.alarm or state.alarm, 500)),
        supervised=state.supervised,
        micro_batch=state.micro_batch,
    )


def _clean(transition: PhaseTransition) -> PhaseTransition:
    return PhaseTransition(
        transition.step,
        one_line(transition.from_phase, 40),
        one_line(transition.to, 40),
        transition.time,
    )


def _read_newest(known: _Known) -> None:
    """The newest records of a run without a state, read again only where the file is another."""
    run = known.run
    seen = file_signature(run.metrics_path)
    if seen is not None and seen == known.metrics_seen:
        return
    known.newest = newest_records(run.metrics_path)
    # Perhaps it could not be read: look again.
    known.metrics_seen = seen if known.newest or not _unreadable(run) else None
    known.spark_due = True


def _view_without_state(known: _Known, now: float) -> RunView:
    """A run of another program, which only writes metrics: judged by its last lines."""
    run = known.run
    told = told_by_metrics(run, known.newest, now)
    attempt = known.newest[0].get("attempt") if known.newest else None
    own = [r for r in known.newest if r.get("attempt") == attempt]
    return RunView(
        run_id=run.run_id,
        path=run.path,
        label=one_line(run.run_id, 120),
        name=one_line(run.run_id, 120),
        status=told.status,
        reason=_unreadable(run) or why_idle(told),
        alive=False,
        step=told.current_step,
        max_steps=told.max_steps,
        loss=_newest_loss(own),
        phase=told.current_phase,
        updated_at=told.updated_at,
        stateless=True,
    )


def _newest_loss(records: list[Json]) -> float | None:
    """The loss of the newest record that has one; NaN where it is."""
    key = loss_key(dict.fromkeys(key for record in records for key in record))
    if key is None:
        return None
    for record in records:
        named = record.get("nonfinite")
        value = as_value(record.get(key), named.get(key) if isinstance(named, dict) else None)
        if value is not None:
            return value
    return None


def last_val_loss(run: RunDirectory) -> float | None:
    """The newest validation loss near the end of the metrics, without reading all of them."""
    records, _ = parse_lines(_tail(run.metrics_path, _LONG_TAIL))
    last = records[-1] if records else {}
    values = (finite(r.get("val_loss")) for r in reversed(records) if not _is_abandoned(r, last))
    return next((v for v in values if v is not None), None)


def _is_abandoned(record: Json, last: Json) -> bool:
    """Whether another attempt than that of the last record wrote it, and further on."""
    step, front = finite(record.get("step")), finite(last.get("step"))
    other = record.get("attempt") != last.get("attempt")
    return other and step is not None and front is not None and step > front


def is_closed(run: RunDirectory) -> bool:
    """Whether it is a folder that may not be looked into: it might well be a run."""
    return os.path.isdir(run.path) and not _may(run.path, os.R_OK | os.X_OK)  # noqa: PTH112


def _may(path: Path, mode: int) -> bool:
    """Whether this process, as whoever it acts for, may do that; False for what is not there."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _view_of_closed(run: RunDirectory) -> RunView:
    """A run, perhaps, of which nothing can be known."""
    return RunView(
        run_id=run.run_id,
        path=run.path,
        label=one_line(run.run_id, 120),
        name=one_line(run.run_id, 120),
        status="idle",
        reason="you may not look into its folder; its owner can let you",
        alive=False,
    )


def _unreadable(run: RunDirectory) -> str:
    """A sentence where there are metrics that may not be read."""
    path = run.metrics_path
    if _may(path, os.F_OK) and not _may(path, os.R_OK):
        return "you may not read its metrics.jsonl; its owner can let you"
    return ""


def _tail(path: Path, size: int = _TAIL) -> bytes:
    try:
        with open_file(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size)
    except OSError:
        return b""


def tail_lines(path: Path, limit: int = _LOG_LINES) -> tuple[str, ...]:
    """The last lines of a text file, safe to show. A progress bar's `\\r` counts as a new line."""
    text = _tail(path).decode("utf-8", "replace").replace("\r", "\n")
    lines = [one_line(x, 500) for x in many_lines(text).split("\n")]
    return tuple([x for x in lines if x.strip()][-limit:])
