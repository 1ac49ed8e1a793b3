"""MLflow's older store: a folder of each run, with a text file of each metric.

A line of a metric is `milliseconds value step`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from shared.files import read_bytes
from shared.foreign.files_below import FileSeen, Seen, files_below, seen_at
from shared.foreign.interface import ForeignFacts
from shared.foreign.records import free_key
from shared.json_text import Json, parse_nonfinite
from shared.run.config import flat_config
from shared.run.foreign import MAX_STEP, text_number
from shared.run.metrics_log import MetricsTable
from shared.run.tail import Tailer
from shared.text import plural

_META, _METRICS = "meta.yaml", "metrics"
_MOST_FILES = 10_000
_LONGEST = 10_000  # bytes of a parameter or tag
_SLICE = 256 << 10
STATUSES = {
    "RUNNING": "running",
    "FINISHED": "completed",
    "FAILED": "failed",
    "KILLED": "cancelled",
}
#: As `meta.yaml` has them.
_NUMBERS = {"1": "RUNNING", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


def looks_like_a_run(files: Collection[str], folders: Collection[str]) -> bool:
    """Whether a folder with these entries may hold a run."""
    return _META in files and _METRICS in folders


def is_shown(folder: Path) -> bool:
    """Whether it does, and not a deleted one or a logged model."""
    try:
        meta = _meta(folder)
    except OSError:
        return True  # its reader tells
    return "model_id" not in meta and meta.get("lifecycle_stage") != "deleted"


def folder_watched(folder: Path) -> tuple[tuple[Path, Seen], ...]:
    """What changes when a run is deleted or restored."""
    return ((folder / _META, seen_at(folder / _META)),)


def folder_written_at(folder: Path) -> float:
    """When its newest metric or its end was written. Raises OSError."""
    written = (folder / _META).stat().st_mtime
    return max([written, *(file.written_at for file in _files(folder / _METRICS))])


def _files(folder: Path) -> list[FileSeen]:
    return files_below(folder, _MOST_FILES)


def _meta(folder: Path) -> dict[str, str]:
    return flat_config(read_bytes(folder / _META).decode("utf-8", "replace"))


class FolderReader:
    """Follows one run; see `Reader`. What has not changed since the last look is not opened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.facts = ForeignFacts(name=folder.name)
        self._meta_seen: Seen = None
        self._texts: dict[str, _Texts] = {n: _Texts(folder / n) for n in ("params", "tags")}
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._tails: dict[str, Tailer] = {}
        self._seen: dict[str, Seen] = {}
        self._bad = 0
        self._share = 0.0

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return self._share

    def poll(self) -> bool:
        """See `Reader.poll`."""
        try:
            self._read_facts()
        except OSError as error:
            self.facts.problem = f"{_META} cannot be read: {error.strerror}"
            return False
        points: list[tuple[str, float | None, object, object]] = []
        more = False
        for file in _files(self._folder / _METRICS):
            if file.seen == self._seen.get(file.name):
                continue
            tail = self._tails.setdefault(file.name, Tailer(Path(file.path)))
            chunk = tail.read(_SLICE)
            if chunk.restarted:
                self._start_over()
                return True
            more |= chunk.more
            if not chunk.more:
                self._seen[file.name] = file.seen
            points += self._points(file.name, chunk.lines)
        if points:
            # Lines of several files: in the order in which they were written.
            points.sort(key=lambda point: (_order(point[3]), _order(point[2])))
            self.table.add_records(merged(points))
        self._share = 0.5 if more else 1.0
        self.facts.problem = f"{plural(self._bad, 'damaged line')} left out" if self._bad else ""
        return more

    def _points(self, key: str, lines: bytes) -> list[tuple[str, float | None, object, object]]:
        found: list[tuple[str, float | None, object, object]] = []
        for line in lines.decode("utf-8", "replace").split("\n"):
            words = line.split()
            if not words:
                continue
            time = _number(words[0])
            value = _number(words[1]) if len(words) > 1 else None
            step = _number(words[2]) if len(words) > 2 else 0.0
            if time is None or value is None or step is None or not abs(step) <= MAX_STEP:
                self._bad += 1
                continue
            found.append((key, value, int(step), time))
        return found

    def _read_facts(self) -> None:
        facts, seen = self.facts, seen_at(self._folder / _META)
        if seen is None or seen != self._meta_seen:
            meta = _meta(self._folder)
            self._meta_seen = seen
            facts.name = meta.get("run_name") or self._folder.name
            status = STATUSES.get(_NUMBERS.get(meta.get("status", ""), meta.get("status", "")), "")
            facts.status = "" if status == "running" else status
            started, ended = (text_number(meta.get(key, "")) for key in ("start_time", "end_time"))
            facts.started_at, facts.ended_at = seconds(started), seconds(ended)
        facts.config = dict(self._texts["params"].read())
        facts.tags = tags_of(self._texts["tags"].read())

    def close(self) -> None:
        """See `Reader.close`."""


class _Texts:
    """The texts in small files, each named by its file; read again where a file has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[Seen, str]] = {}

    def read(self) -> list[tuple[str, str]]:
        """Names and texts."""
        known: dict[str, tuple[Seen, str]] = {}
        for file in _files(self._folder):
            before = self._known.get(file.name)
            if before is None or before[0] != file.seen:
                try:
                    before = (
                        file.seen,
                        read_bytes(Path(file.path))[:_LONGEST].decode("utf-8", "replace"),
                    )
                except OSError:
                    continue
            known[file.name] = before
        self._known = known
        return [(name, text) for name, (_, text) in known.items()]


def _number(text: str) -> float | None:
    number = text_number(text)
    return parse_nonfinite(text) if number is None else number


def _order(value: Any) -> float:
    return value if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


def merged(points: Sequence[tuple[str, float | None, object, object]]) -> list[Json]:
    """Records of single points (key, value, step, milliseconds): those of one step together."""
    found: list[Json] = []
    for key, value, step, time in points:
        if value is None or not isinstance(step, int) or not 0 <= step <= MAX_STEP:
            continue
        name = free_key(key)
        if not found or found[-1]["step"] != step or name in found[-1]:
            found.append({"step": step})
            moment = seconds(time)
            if moment is not None:
                found[-1]["time"] = moment
        found[-1][name] = value
    return found


def seconds(milliseconds: object) -> float | None:
    """MLflow's times, in Unix seconds."""
    return milliseconds / 1e3 if isinstance(milliseconds, (int, float)) else None


def tags_of(tags: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """A run's tags, without those that MLflow sets."""
    return tuple(f"{key}: {value}" for key, value in tags if not key.startswith("mlflow."))[:50]
