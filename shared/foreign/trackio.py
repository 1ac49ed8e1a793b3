"""trackio: a database of each project, and fragments of JSON Lines in its `inbox`.

Its tables have changed: once without a step, once without a run's id, once all projects in one.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.foreign import sqlite
from shared.foreign import trackio_inbox as inbox
from shared.foreign.files_below import Seen
from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found
from shared.foreign.records import config_of, types_not_drawn, with_numbers
from shared.foreign.sqlite import Database, UnreadableError, identity, is_database, reading
from shared.json_text import Json
from shared.run.foreign import flattened, read_step, text_time
from shared.run.metrics_log import MetricsTable
from shared.run.record_lines import parse_line
from shared.text import one_line, plural

_ENDING = ".db"
_ROWS, _FRAGMENTS = 5_000, 200  # read at a time
_ALL = 1 << 30
_MOST_RUNS = 5_000
#: Each id with a name, through the index: the table may have millions of rows.
_EACH_ID = """
WITH RECURSIVE ids(id) AS (
    SELECT min(run_id) FROM metrics
    UNION ALL
    SELECT (SELECT min(run_id) FROM metrics WHERE run_id > ids.id) FROM ids WHERE id IS NOT NULL
    LIMIT ?
)
SELECT id, (SELECT run_name FROM metrics WHERE run_id = ids.id LIMIT 1) FROM ids
WHERE id IS NOT NULL
"""


class Trackio:
    """Each run of a database is a run; those that are only in the inbox too."""

    name = "trackio"

    def __init__(self) -> None:
        self._inboxes: dict[Path, _InboxRuns] = {}

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`."""
        runs: list[Found] = []
        names: set[str] = set()
        seen: list[tuple[Path, Seen]] = []
        busy = False
        for name in sorted(n for n in folder.files if n.endswith(_ENDING)):
            path = folder.path / name
            seen += sqlite.watched(path)
            try:
                own = _runs(path) if is_database(path) else []
            except UnreadableError:
                busy = True
                continue
            runs += own
            names |= {name} if own else set()
        if inbox.NAME in folder.folders:
            place = folder.path / inbox.NAME
            seen += inbox.watched(place)
            known = {found.key for found in runs}
            held = self._inboxes.setdefault(place, _InboxRuns(place)).names()
            runs += [
                Found(place, self.name, key, name)
                for key, name in held.items()
                if key not in known and name not in known
            ]
            names |= {inbox.NAME} if held else set()
        return Claim(tuple(runs), frozenset(names), tuple(seen), busy)

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        try:
            return _runs(path) if is_database(path) else []
        except UnreadableError:
            return []

    def open(self, found: Found) -> TrackioReader:
        """See `Format.open`."""
        return TrackioReader(found)

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        if found.path.name == inbox.NAME:
            return inbox.written_at(found.path)
        written = sqlite.written_at(found.path)
        with contextlib.suppress(OSError):  # there need not be an inbox
            written = max(written, inbox.written_at(found.path.with_name(inbox.NAME)))
        return written


class _InboxRuns:
    """The runs whose metrics lie in an inbox."""

    def __init__(self, place: Path) -> None:
        self._inbox = inbox.Inbox(place)
        self._runs: dict[Path, dict[str, str]] = {}  # of each fragment

    def names(self) -> dict[str, str]:
        """The names of the runs, by id."""
        self._inbox.look()
        for path, records in self._inbox.take(_ALL):
            told = [inbox.run_of(one) for one in records if one.get("kind") == "metric"]
            self._runs[path] = dict(one for one in told if one is not None)
        self._runs = {path: runs for path, runs in self._runs.items() if path in self._inbox}
        return {key: name for runs in self._runs.values() for key, name in runs.items()}


def _runs(path: Path) -> list[Found]:
    """The runs in a database. Raises UnreadableError."""
    with reading(path) as database:
        own = _identifying(database)
        if not own:
            return []
        if own == ("run_id",) and database.is_indexed("metrics", "run_id"):
            rows = database.rows(_EACH_ID, (_MOST_RUNS,))
        else:
            rows = database.rows(
                f"SELECT DISTINCT {', '.join(own)}, run_name FROM metrics LIMIT ?", (_MOST_RUNS,)
            )
    found = {_key(row[:-1]): str(row[-1]) for row in rows}
    return [Found(path, Trackio.name, key, name) for key, name in found.items()]


def _identifying(database: Database) -> tuple[str, ...]:
    """The columns that tell a run from others; none where it is no database of trackio's."""
    columns = database.columns("metrics")
    if not {"metrics", "run_name", "timestamp"} <= columns:
        return ()
    if "run_id" in columns:
        return ("run_id",)
    return ("project_name", "run_name") if "project_name" in columns else ("run_name",)


def _key(values: Sequence[Any]) -> str:
    return str(values[0]) if len(values) == 1 else json.dumps([str(value) for value in values])


def _values(key: str, columns: Sequence[str]) -> list[str]:
    return [key] if len(columns) == 1 else list(json.loads(key))


class TrackioReader:
    """Follows one run; see `Reader`."""

    def __init__(self, found: Found) -> None:
        self._found = found
        in_inbox = found.path.name == inbox.NAME
        self._path = None if in_inbox else found.path
        self._inbox_path = found.path if in_inbox else found.path.with_name(inbox.NAME)
        self.facts = ForeignFacts(name=found.name)
        self._identity = None if in_inbox else identity(found.path)
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._row = self._system_row = 0
        self._steps = 0
        self._inbox = inbox.Inbox(self._inbox_path)
        self._unread: set[Path] = set()
        self._seen: set[str] = set()
        self._not_drawn: Counter[str] = Counter()
        self._share = 0.0

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return self._share

    def poll(self) -> bool:
        """See `Reader.poll`."""
        more = False
        self.facts.problem = ""
        if self._path is not None:
            now = identity(self._path)
            if now is not None and now != self._identity:
                self._identity = now
                self._start_over()
            try:
                with reading(self._path) as database:
                    more = self._take_rows(database)
            except UnreadableError as error:
                self.facts.problem = str(error)
                return False
        if not more:
            more = self._take_fragments()
        if self._unread:
            count = plural(len(self._unread), "fragment")
            self.facts.problem = f"{count} of the inbox cannot be read"
        self.facts.notes = types_not_drawn(self._not_drawn)
        self._share = 0.5 if more else 1.0
        return more

    def _take_rows(self, database: Database) -> bool:
        own = _identifying(database)
        if not own:
            raise UnreadableError(f"{self._found.path.name} has no table of metrics any more")
        # In order of rows: the index of a run is in order of steps and would be sorted each time.
        where = " AND ".join(f"+{column} = ?" for column in own)
        values = _values(self._found.key, own)
        columns = database.columns("metrics")
        step = "step" if "step" in columns else "NULL"
        log_id = "log_id" if "log_id" in columns else "NULL"
        [(newest,)] = database.rows("SELECT ifnull(max(rowid), 0) FROM metrics")
        rows = database.rows(
            f"SELECT rowid, {step}, timestamp, metrics, {log_id} FROM metrics"
            f" WHERE rowid > ? AND {where} ORDER BY rowid LIMIT ?",
            (self._row, *values, _ROWS),
        )
        records = []
        for self._row, at, time, metrics, name in rows:
            record = self._record(at, time, _object(metrics), name)
            if record is not None:
                records.append(record)
        if records:
            self.table.add_records(records)
        if len(rows) == _ROWS:
            return True
        self._row = max(self._row, newest)  # of other runs, and not looked at again
        self._take_system(database, where, values)
        if (told := database.columns("configs")) >= {*own, "config"}:
            order = " ORDER BY created_at DESC" if "created_at" in told else ""
            found = database.rows(
                f"SELECT config FROM configs WHERE {where}{order} LIMIT 1", values
            )
            if found:
                self._configure(_object(found[0][0]))
        return False

    def _record(
        self, step: Any, time: Any, metrics: Mapping[str, Any] | None, log_id: Any
    ) -> Json | None:
        if metrics is None or (log_id and str(log_id) in self._seen):
            return None
        if log_id:
            self._seen.add(str(log_id))
        flat = flattened(metrics)
        for key, value in flat.items():
            if key.endswith("_type") and isinstance(value, str):
                self._not_drawn[one_line(value, 30)] += 1
        if step is None:
            step = self._steps
        at, _ = read_step(step)
        if at is None:
            return None
        self._steps = at + 1
        record = {"step": at, **with_numbers(flat)}
        moment = text_time(time) if isinstance(time, str) else None
        return record if moment is None else {**record, "time": moment}

    def _take_system(self, database: Database, where: str, values: Sequence[str]) -> None:
        """Metrics of the machine have times but no steps: they go to the step of that time."""
        if not {"timestamp", "metrics"} <= database.columns("system_metrics"):
            return
        if not len(self.table.series("time")):
            return
        rows = database.rows(
            f"SELECT rowid, timestamp, metrics FROM system_metrics"
            f" WHERE rowid > ? AND {where} ORDER BY rowid LIMIT ?",
            (self._system_row, *values, _ROWS),
        )
        if rows:
            self._system_row = rows[-1][0]
        self._add_system((time, _object(metrics)) for _, time, metrics in rows)

    def _add_system(self, told_at: Iterable[tuple[Any, Mapping[str, Any] | None]]) -> None:
        clock = self.table.series("time")
        if not len(clock):
            return
        records = []
        for time, told in told_at:
            moment = text_time(str(time))
            if moment is None or told is None:
                continue
            at = max(0, int(np.searchsorted(clock.values, moment, "right")) - 1)
            numbers = with_numbers(flattened(told))
            system = {f"system/{key}": value for key, value in numbers.items()}
            records.append({"step": int(clock.steps[at]), **system})
        if records:
            last = self.table.facts.last_record
            self.table.add_records(records)
            self.table.facts.last_record = last

    def _take_fragments(self) -> bool:
        """Read on in the inbox; True while there is more."""
        self._inbox.look()
        for path, fragment in self._inbox.take(_FRAGMENTS):
            (self._unread.discard if fragment else self._unread.add)(path)
            records, system = [], []
            for told in fragment:
                run, metrics = inbox.run_of(told), told.get("metrics")
                if run is None or run[0] != self._found.key or not isinstance(metrics, dict):
                    continue
                if told.get("kind") == "metric":
                    if isinstance(told.get("config"), dict):
                        self._configure(told["config"])
                    record = self._record(
                        told.get("step"), told.get("timestamp"), metrics, told.get("log_id")
                    )
                    records += [] if record is None else [record]
                elif told.get("kind") == "system_metric":
                    system.append((told.get("timestamp"), metrics))
            if records:
                self.table.add_records(records)
            self._add_system(system)
        return self._inbox.more

    def _configure(self, config: Mapping[str, Any] | None) -> None:
        if config is None:
            return
        created = config.get("_Created")
        self.facts.started_at = text_time(created) if isinstance(created, str) else None
        self.facts.config = config_of(config, [key for key in config if key.startswith("_")])

    def close(self) -> None:
        """See `Reader.close`."""


def _object(stored: Any) -> Json | None:
    """A JSON object as a database holds it: newer versions store its bytes."""
    return parse_line(stored if isinstance(stored, bytes) else str(stored).encode())


def make_format() -> Format:
    """The format."""
    return Trackio()
