"""MLflow's older store: a folder of each run, with a text file of each metric.

A line of a metric is `milliseconds value step`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from shared.files import read_bytes
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
_SLICE = 256 << 10
STATUSES = {
    "RUNNING": "running",
    "FINISHED": "completed",
    "FAILED": "failed",
    "KILLED": "cancelled",
}
#: As `meta.yaml` has them.
_NUMBERS = {"1": "RUNNING", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


def is_run_folder(files: Collection[str], folders: Collection[str]) -> bool:
    """Whether a folder with these entries holds a run."""
    return _META in files and _METRICS in folders


def folder_written_at(folder: Path) -> float:
    """When its newest metric or its end was written. Raises OSError."""
    times = [(folder / _META).stat().st_mtime]
    times += [path.stat().st_mtime for path in _files(folder / _METRICS)]
    return max(times)


def _files(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return found[:_MOST_FILES]


class FolderReader:
    """Follows one run; see `Reader`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.facts = ForeignFacts(name=folder.name)
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._tails: dict[str, Tailer] = {}
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
            paths = _files(self._folder / _METRICS)
        except OSError as error:
            self.facts.problem = f"{_META} cannot be read: {error.strerror}"
            return False
        points: list[tuple[str, float | None, object, object]] = []
        more = False
        for path in paths:
            key = path.relative_to(self._folder / _METRICS).as_posix()
            tail = self._tails.setdefault(key, Tailer(path))
            chunk = tail.read(_SLICE)
            if chunk.restarted:
                self._start_over()
                return True
            more |= chunk.more
            points += self._points(key, chunk.lines)
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
        meta = flat_config(read_bytes(self._folder / _META).decode("utf-8", "replace"))
        facts = self.facts
        facts.name = meta.get("run_name") or self._folder.name
        status = STATUSES.get(_NUMBERS.get(meta.get("status", ""), meta.get("status", "")), "")
        facts.status = "" if status == "running" else status
        started, ended = (text_number(meta.get(key, "")) for key in ("start_time", "end_time"))
        facts.started_at, facts.ended_at = seconds(started), seconds(ended)
        facts.config = dict(self._texts("params"))
        facts.tags = tags_of(self._texts("tags"))

    def _texts(self, folder: str) -> list[tuple[str, str]]:
        found = []
        for path in _files(self._folder / folder):
            try:
                text = read_bytes(path)[:10_000].decode("utf-8", "replace")
            except OSError:
                continue
            found.append((path.relative_to(self._folder / folder).as_posix(), text))
        return found

    def close(self) -> None:
        """See `Reader.close`."""


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
