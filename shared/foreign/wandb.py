"""Weights & Biases' offline runs: `wandb/offline-run-*/run-*.wandb`, and those of online runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found
from shared.foreign.records import config_of, free_key, share_of, types_not_drawn
from shared.foreign.wandb_blocks import Records
from shared.json_text import Json
from shared.run.foreign import read_step
from shared.run.metrics_log import MetricsTable
from shared.run.tail import ByteTail
from shared.text import one_line, plural

_ENDING = ".wandb"
_SLICE = 256 << 10
_OTHERS = frozenset({"files", "logs", "tmp"})  # in a run's folder, and nobody's logs
_OWN = ("_step", "_timestamp", "_runtime", "_wandb")
_MOST_CONFIG = 10_000


class WeightsAndBiases:
    """Each file is a run, named after its folder where it is alone there."""

    name = "W&B"

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`."""
        names = sorted(name for name in folder.files if name.endswith(_ENDING))
        if not names:
            return Claim()
        alone = len(names) == 1
        runs = tuple(
            Found(folder.path, self.name, key="" if alone else name, name=folder.path.name)
            for name in names
        )
        return Claim(runs, frozenset(names) | (folder.folders & _OTHERS))

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        return [Found(path, self.name)] if path.suffix == _ENDING else []

    def open(self, found: Found) -> WandbReader:
        """See `Format.open`."""
        return WandbReader(_file_of(found))

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        return _file_of(found).stat().st_mtime


def _file_of(found: Found) -> Path:
    if found.path.suffix == _ENDING and not found.path.is_dir():
        return found.path
    if found.key:
        return found.path / found.key
    return next(iter(sorted(found.path.glob(f"*{_ENDING}"))), found.path / f"run{_ENDING}")


class WandbReader:
    """Follows one file; see `Reader`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = ByteTail(path)
        self.facts = ForeignFacts()
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._records = Records()
        self._told = _Told()
        self._unread = 0

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return share_of(self._bytes.offset, [self._path])

    def poll(self) -> bool:
        """See `Reader.poll`."""
        from shared.foreign.wandb_proto import message

        piece = self._bytes.read(_SLICE)
        if piece.restarted:
            self._start_over()
        if not piece.data:
            return False
        record_class = message("Record")
        for data in self._records.feed(piece.data):
            try:
                record = record_class.FromString(data)
            except Exception:  # protobuf's DecodeError, which older versions have elsewhere
                self._unread += 1
            else:
                self._told.take(record)
        records = self._told.flush()
        if records:
            self.table.add_records(records)
        self._tell()
        return piece.more

    def _tell(self) -> None:
        self._told.tell(self.facts)
        damaged = self._records.damaged + self._unread
        self.facts.problem = ""
        if damaged:
            name = one_line(self._path.name, 80)
            self.facts.problem = f"{name}: {plural(damaged, 'damaged record')} left out"

    def close(self) -> None:
        """See `Reader.close`."""


class _Told:
    """What the records say; those of the history until `flush`."""

    def __init__(self) -> None:
        self._records: list[Json] = []
        self._config: dict[str, Any] = {}
        self._run: Any = None
        self._ended: tuple[int, int] | None = None
        self._system: Json = {}  # since the last step
        self._not_drawn: Counter[str] = Counter()

    def take(self, record: Any) -> None:
        """Take in one record."""
        if record.HasField("history"):
            self._history(record.history)
        elif record.HasField("stats"):
            for item in record.stats.item:
                value = _number(item.value_json)
                if value is not None:
                    self._system[f"system/{item.key}"] = value
        elif record.HasField("config"):
            self._settings(record.config)
        elif record.HasField("run"):
            self._run = record.run
            self._settings(record.run.config)
            self._ended = None  # it was resumed
        elif record.HasField("exit"):
            self._ended = (record.exit.exit_code, record.exit.runtime)

    def _history(self, history: Any) -> None:
        record: Json = {}
        step: float | None = history.step.num if history.HasField("step") else None
        for item in history.item:
            key = item.key or ".".join(item.nested_key)
            value = _value_of(item)
            if value is None:
                if key.endswith("._type"):
                    self._not_drawn[one_line(item.value_json.strip('"'), 30)] += 1
            elif key == "_step":
                step = value if step is None else step
            elif key == "_timestamp":
                record["time"] = value
            elif key.partition(".")[0] not in _OWN:
                record[free_key(key)] = value
        if read_step(step)[0] is None:
            return
        record["step"] = int(step or 0)
        if self._system:
            record |= self._system
            self._system = {}
        self._records.append(record)

    def _settings(self, config: Any) -> None:
        for item in config.update:
            if len(self._config) < _MOST_CONFIG:
                key = item.key or ".".join(item.nested_key)
                self._config[key] = _value(item.value_json)
        for item in config.remove:
            self._config.pop(item.key or ".".join(item.nested_key), None)

    def flush(self) -> list[Json]:
        """The records of the history since the last time."""
        found, self._records = self._records, []
        return found

    def tell(self, facts: ForeignFacts) -> None:
        """Write what is known into `facts`."""
        facts.config = config_of(self._config, ("_wandb",))
        facts.notes = types_not_drawn(self._not_drawn)
        run = self._run
        if run is not None:
            facts.name = run.display_name or run.run_id
            facts.host = run.host
            facts.tags = tuple(run.tags)
            facts.started_at = run.start_time.seconds + run.start_time.nanos / 1e9 or None
            more = {
                "wandb.project": run.project,
                "wandb.entity": run.entity,
                "wandb.group": run.run_group,
                "wandb.job_type": run.job_type,
                "wandb.notes": run.notes,
            }
            facts.config = {**facts.config, **{key: text for key, text in more.items() if text}}
        facts.status, facts.ended_at = "", None
        if self._ended is not None:
            code, seconds = self._ended
            facts.status = "failed" if code else "completed"
            if facts.started_at is not None:
                facts.ended_at = facts.started_at + max(0, seconds)


def _value_of(item: Any) -> float | None:
    """The number in an item of the history."""
    kind = item.WhichOneof("kind")
    if kind in ("integer", "number"):
        return float(getattr(item, kind))
    return _number(item.value_json)


def _number(text: str) -> float | None:
    """A number in JSON, or NaN or an infinity as Python's `json` writes them."""
    try:
        return float(text)
    except ValueError:
        return None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def make_format() -> Format:
    """The format."""
    return WeightsAndBiases()
