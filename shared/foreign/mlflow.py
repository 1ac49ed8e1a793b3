"""MLflow: `mlflow.db`, and the older folders `mlruns/EXPERIMENT/RUN` of text files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from shared.foreign.files_below import Seen
from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found, Reader
from shared.foreign.mlflow_folder import (
    STATUSES,
    FolderReader,
    folder_watched,
    folder_written_at,
    is_shown,
    looks_like_a_run,
    merged,
    seconds,
    tags_of,
)
from shared.foreign.sqlite import (
    Database,
    UnreadableError,
    identity,
    is_database,
    reading,
    watched,
    written_at,
)
from shared.run.metrics_log import MetricsTable

_ENDINGS = (".db", ".sqlite", ".sqlite3")
_ROWS = 20_000  # read at a time
_MOST_RUNS = 5_000
_HUGE = 1.79e308  # how an infinity is stored
_INSIDE = frozenset({"metrics", "params", "tags", "artifacts", "inputs", "outputs"})


class MLflow:
    """Each run of a database, and each folder of a run."""

    name = "MLflow"

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`."""
        if looks_like_a_run(folder.files, folder.folders):
            seen = folder_watched(folder.path)
            run = Found(folder.path, self.name, name=folder.path.name)
            runs = (run,) if is_shown(folder.path) else ()
            return Claim(runs, frozenset({"meta.yaml"}) | (folder.folders & _INSIDE), seen)
        found: list[Found] = []
        names: set[str] = set()
        watching: list[tuple[Path, Seen]] = []
        busy = False
        for name in sorted(n for n in folder.files if n.endswith(_ENDINGS)):
            path = folder.path / name
            watching += watched(path)
            try:
                own = _runs(path) if is_database(path) else []
            except UnreadableError:
                busy = True
                continue
            found += own
            names |= {name} if own else set()
        return Claim(tuple(found), frozenset(names), tuple(watching), busy)

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        try:
            return _runs(path) if is_database(path) else []
        except UnreadableError:
            return []

    def open(self, found: Found) -> Reader:
        """See `Format.open`."""
        return DatabaseReader(found) if found.key else FolderReader(found.path)

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        return written_at(found.path) if found.key else folder_written_at(found.path)


def _runs(path: Path) -> list[Found]:
    """The runs in a database, the newest first. Raises UnreadableError."""
    with reading(path) as database:
        if not _is_ours(database):
            return []
        rows = database.rows(
            "SELECT run_uuid, name FROM runs WHERE lifecycle_stage IS NOT 'deleted'"
            " ORDER BY start_time DESC LIMIT ?",
            (_MOST_RUNS,),
        )
    return [Found(path, MLflow.name, str(key), str(name or key)) for key, name in rows]


def _is_ours(database: Database) -> bool:
    metrics, runs = database.columns("metrics"), database.columns("runs")
    return {"run_uuid", "key", "value", "step"} <= metrics and {"run_uuid", "name"} <= runs


class DatabaseReader:
    """Follows one run of a database; see `Reader`."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self.facts = ForeignFacts(name=found.name)
        self._identity = identity(found.path)
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._row = 0
        self._share = 0.0

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return self._share

    def poll(self) -> bool:
        """See `Reader.poll`."""
        now = identity(self._found.path)
        if now is not None and now != self._identity:
            self._identity = now
            self._start_over()
        try:
            with reading(self._found.path) as database:
                more = self._take(database)
        except UnreadableError as error:
            self.facts.problem = str(error)
            return False
        self.facts.problem = ""
        self._share = 0.5 if more else 1.0
        return more

    def _take(self, database: Database) -> bool:
        key = self._found.key
        rows = database.rows(
            "SELECT rowid, key, value, is_nan, step, timestamp FROM metrics"
            " WHERE run_uuid = ? AND rowid > ? ORDER BY rowid LIMIT ?",
            (key, self._row, _ROWS),
        )
        if rows:
            self._row = rows[-1][0]
            self.table.add_records(
                merged([(str(r[1]), _value(r[2], r[3]), r[4], r[5]) for r in rows])
            )
        if len(rows) == _ROWS:
            return True
        run = database.rows(
            "SELECT name, status, start_time, end_time FROM runs WHERE run_uuid = ?", (key,)
        )
        for name, status, started, ended in run:
            self.facts.name = str(name or key)
            self.facts.status = STATUSES.get(str(status), "")
            self.facts.started_at, self.facts.ended_at = seconds(started), seconds(ended)
            if self.facts.status == "running":
                self.facts.status = ""  # it may have died: the time of the last write tells
        if "value" in database.columns("params"):
            params = database.rows(
                "SELECT key, value FROM params WHERE run_uuid = ? LIMIT 5000", (key,)
            )
            self.facts.config = {str(name): str(value) for name, value in params}
        if "value" in database.columns("tags"):
            tags = database.rows("SELECT key, value FROM tags WHERE run_uuid = ? LIMIT 200", (key,))
            self.facts.tags = tags_of([(str(name), str(value)) for name, value in tags])
        return False

    def close(self) -> None:
        """See `Reader.close`."""


def _value(value: object, is_nan: object) -> float | None:
    if is_nan:
        return math.nan
    if not isinstance(value, (int, float)):
        return None
    return math.copysign(math.inf, value) if abs(value) >= _HUGE else float(value)


def make_format() -> Format:
    """The format."""
    return MLflow()
