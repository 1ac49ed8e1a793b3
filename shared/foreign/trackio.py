"""trackio: a database of each project, and fragments of JSON Lines in its `inbox`.

Its tables have changed: once without a step, once without a run's id, once all projects in one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.files import open_file
from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found
from shared.foreign.records import config_of, types_not_drawn, with_numbers
from shared.foreign.sqlite import (
    Database,
    UnreadableError,
    identity,
    is_database,
    reading,
    written_at,
)
from shared.json_text import Json
from shared.run.foreign import flattened, read_step, text_time
from shared.run.metrics_log import MetricsTable
from shared.run.record_lines import parse_line, parse_lines
from shared.text import one_line

_ENDING, _INBOX = ".db", "inbox"
_ROWS = 5_000  # read at a time
_MOST_RUNS, _MOST_FRAGMENTS = 5_000, 20_000
_FRAGMENT = 64 << 20  # bytes of one that is read


class Trackio:
    """Each run of a database is a run; those that are only in the inbox too."""

    name = "trackio"

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`."""
        runs: list[Found] = []
        names: set[str] = set()
        for name in sorted(n for n in folder.files if n.endswith(_ENDING)):
            path = folder.path / name
            if is_database(path):
                own = self._runs(path)
                runs += own
                names |= {name} if own else set()
        if _INBOX in folder.folders:
            known = {found.key for found in runs}
            inbox = folder.path / _INBOX
            held = _inbox_runs(inbox)
            runs += [
                Found(inbox, self.name, key, name)
                for key, name in held.items()
                if key not in known and name not in known
            ]
            names |= {_INBOX} if held else set()
        return Claim(tuple(runs), frozenset(names), again=bool(runs))

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        return self._runs(path) if is_database(path) else []

    def _runs(self, path: Path) -> list[Found]:
        try:
            with reading(path) as database:
                own = _identifying(database)
                if not own:
                    return []
                rows = database.rows(
                    f"SELECT DISTINCT {', '.join(own)}, run_name FROM metrics LIMIT ?",
                    (_MOST_RUNS,),
                )
        except UnreadableError:
            return []
        found = {_key(row[:-1]): str(row[-1]) for row in rows}
        return [Found(path, self.name, key, name) for key, name in found.items()]

    def open(self, found: Found) -> TrackioReader:
        """See `Format.open`."""
        return TrackioReader(found)

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        if found.path.name != _INBOX:
            return written_at(found.path)
        times = [path.stat().st_mtime for path in _fragments(found.path)]
        return max(times, default=found.path.stat().st_mtime)


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


def _fragments(inbox: Path) -> list[Path]:
    found = sorted(inbox.glob("*/*.jsonl"))
    return [path for path in found if path.is_file()][:_MOST_FRAGMENTS]


def _records(fragment: Path) -> list[Json]:
    with open_file(fragment) as file:
        return parse_lines(file.read(_FRAGMENT))[0]


def _inbox_runs(inbox: Path) -> dict[str, str]:
    """Ids and names of the runs whose metrics lie in the inbox."""
    found: dict[str, str] = {}
    for path in _fragments(inbox):
        try:
            records = _records(path)
        except OSError:
            continue
        for record in records:
            if record.get("kind") == "metric" and isinstance(record.get("run"), str):
                found[str(record.get("run_id") or record["run"])] = record["run"]
    return found


class TrackioReader:
    """Follows one run; see `Reader`."""

    def __init__(self, found: Found) -> None:
        self._found = found
        in_inbox = found.path.name == _INBOX
        self._path = None if in_inbox else found.path
        self._inbox = found.path if in_inbox else found.path.with_name(_INBOX)
        self.facts = ForeignFacts(name=found.name)
        self._identity = None if in_inbox else identity(found.path)
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._row = self._system_row = 0
        self._steps = 0
        self._read: set[Path] = set()
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
            self._take_fragments()
        self.facts.notes = types_not_drawn(self._not_drawn)
        self._share = 0.5 if more else 1.0
        return more

    def _take_rows(self, database: Database) -> bool:
        own = _identifying(database)
        if not own:
            raise UnreadableError(f"{self._found.path.name} has no table of metrics any more")
        where = " AND ".join(f"{column} = ?" for column in own)
        values = _values(self._found.key, own)
        columns = database.columns("metrics")
        step = "step" if "step" in columns else "NULL"
        log_id = "log_id" if "log_id" in columns else "NULL"
        rows = database.rows(
            f"SELECT rowid, {step}, timestamp, metrics, {log_id} FROM metrics"
            f" WHERE {where} AND rowid > ? ORDER BY rowid LIMIT ?",
            (*values, self._row, _ROWS),
        )
        records = []
        for self._row, at, time, metrics, name in rows:
            record = self._record(at, time, parse_line(str(metrics).encode()), name)
            if record is not None:
                records.append(record)
        if records:
            self.table.add_records(records)
        if len(rows) == _ROWS:
            return True
        self._take_system(database, where, values)
        if (told := database.columns("configs")) >= {*own, "config"}:
            order = " ORDER BY created_at DESC" if "created_at" in told else ""
            found = database.rows(
                f"SELECT config FROM configs WHERE {where}{order} LIMIT 1", values
            )
            if found:
                self._configure(parse_line(str(found[0][0]).encode()))
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
        clock = self.table.series("time")
        if not len(clock.steps):
            return
        rows = database.rows(
            f"SELECT rowid, timestamp, metrics FROM system_metrics"
            f" WHERE {where} AND rowid > ? ORDER BY rowid LIMIT ?",
            (*values, self._system_row, _ROWS),
        )
        records = []
        for self._system_row, time, metrics in rows:
            moment = text_time(str(time))
            told = parse_line(str(metrics).encode())
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

    def _take_fragments(self) -> None:
        for path in _fragments(self._inbox):
            if path in self._read:
                continue
            try:
                fragment = _records(path)
            except OSError as error:
                self.facts.problem = f"{path.name} cannot be read: {error.strerror}"
                continue
            self._read.add(path)
            records = []
            for told in fragment:
                key, metrics = told.get("run_id") or told.get("run"), told.get("metrics")
                if key != self._found.key or not isinstance(metrics, dict):
                    continue
                if told.get("kind") == "metric":
                    if isinstance(told.get("config"), dict):
                        self._configure(told["config"])
                    record = self._record(
                        told.get("step"), told.get("timestamp"), metrics, told.get("log_id")
                    )
                    records += [] if record is None else [record]
            if records:
                self.table.add_records(records)

    def _configure(self, config: Mapping[str, Any] | None) -> None:
        if config is None:
            return
        created = config.get("_Created")
        self.facts.started_at = text_time(created) if isinstance(created, str) else None
        self.facts.config = config_of(config, [key for key in config if key.startswith("_")])

    def close(self) -> None:
        """See `Reader.close`."""


def make_format() -> Format:
    """The format."""
    return Trackio()
