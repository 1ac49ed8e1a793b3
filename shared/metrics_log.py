"""`metrics.jsonl` as numbers: lines parsed whatever is in them, one series per numeric key."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.records import RECORD_KEYS, SHALLOW, Json, is_number, is_too_deep, parse_nonfinite
from shared.tail import Tailer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_STEP = 1 << 53  # beyond it a float no longer counts steps
MAX_SERIES = 10_000  # a file of ever new keys must not fill memory
# A string is matched to its end or that of the line, so that no line costs more than one pass.
_BARE_NONFINITE = re.compile(
    r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[-+]?\b(?:nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL
)


def _canonical(match: re.Match[str]) -> str:
    token = match.group()
    if token.startswith('"'):
        return token
    value = parse_nonfinite(token)
    if value is None or math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def parse_line(line: bytes) -> Json | None:
    """The JSON object on one line, or None for anything else.

    Accepts what strict JSON parsers refuse: bare NaN and infinities in any spelling, numbers too
    large for a double, lone surrogates, a byte order mark.
    """
    try:
        value = orjson.loads(line)
    except ValueError:
        value = _parse_lenient(line)
    if not isinstance(value, dict) or (len(line) > SHALLOW and is_too_deep(line, value)):
        return None
    return value


def _parse_lenient(line: bytes) -> object:
    try:
        text = line.decode("utf-8-sig").strip(" \t\r\n")
        if not text.startswith("{"):
            return None
        lowered = line.lower()
        if b"nan" in lowered or b"inf" in lowered:
            text = _BARE_NONFINITE.sub(_canonical, text)
        return json.loads(text, parse_int=_parse_int)
    except (ValueError, RecursionError):
        return None


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def parse_lines(block: bytes) -> tuple[list[Json], int]:
    """The records of a block of whole lines and the number of lines that held none."""
    records: list[Json] = []
    bad = 0
    for line in block.split(b"\n"):
        if not line or line.isspace():
            continue
        record = parse_line(line)
        if record is None:
            bad += 1
        else:
            records.append(record)
    return records, bad


@dataclass(frozen=True)
class Series:
    """One metric: `values[i]` at `steps[i]`, steps strictly increasing, both of shape (N,)."""

    key: str
    steps: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)


class _Column:
    """A growing (step, value, attempt) table; order and duplicates are settled when it is read."""

    __slots__ = ("_attempts", "_disorder", "_last_step", "_size", "_steps", "_values")

    def __init__(self) -> None:
        self._steps = np.empty(64, np.int64)
        self._values = np.empty(64, np.float64)
        self._attempts = np.empty(64, np.int32)
        self._size = 0
        self._last_step = -1
        self._disorder = False

    def extend(self, steps: Ints, values: Floats, attempts: NDArray[np.int32]) -> None:
        end = self._size + len(steps)
        if end > len(self._steps):
            capacity = max(end, 2 * len(self._steps))
            for name in ("_steps", "_values", "_attempts"):
                grown = np.empty(capacity, getattr(self, name).dtype)
                grown[: self._size] = getattr(self, name)[: self._size]
                setattr(self, name, grown)
        self._steps[self._size : end] = steps
        self._values[self._size : end] = values
        self._attempts[self._size : end] = attempts
        if steps[0] <= self._last_step or bool(np.any(steps[1:] <= steps[:-1])):
            self._disorder = True
        self._last_step = max(self._last_step, int(steps.max()))
        self._size = end

    def read(self) -> tuple[Ints, Floats]:
        if self._disorder:
            self._settle()
        return self._steps[: self._size], self._values[: self._size]

    def _settle(self) -> None:
        """Sort by step; of equal steps keep the highest attempt, of those the last written."""
        n = self._size
        order = np.lexsort((self._attempts[:n], self._steps[:n]))
        steps = self._steps[order]
        last = np.append(steps[1:] != steps[:-1], True)
        keep = order[last]
        # New arrays: those handed out by an earlier read must not change under their reader.
        self._steps = self._steps[keep]
        self._values = self._values[keep]
        self._attempts = self._attempts[keep]
        self._size = len(keep)
        self._disorder = False


class MetricsTable:
    """Every numeric series of a metrics log, appended to as lines arrive."""

    def __init__(self) -> None:
        self._columns: dict[str, _Column] = {}
        self.bad_lines = 0
        self.records = 0
        self.last_record: Json = {}
        self.version = 0

    def keys(self) -> list[str]:
        """The names of the series, in order of first appearance."""
        return list(self._columns)

    def series(self, key: str) -> Series:
        """The series of `key`; an empty one if there is none."""
        column = self._columns.get(key)
        if column is None:
            return Series(key, np.empty(0, np.int64), np.empty(0, np.float64))
        return Series(key, *column.read())

    def add_lines(self, block: bytes) -> None:
        """Take in a block of whole lines."""
        records, bad = parse_lines(block)
        self.bad_lines += bad
        self.add_records(records)

    def add_records(self, records: Iterable[Json]) -> None:
        """Take in parsed records; those without a usable step count as bad lines."""
        for keys, group in groupby(records, key=tuple):
            batch = list(group)
            if "nonfinite" in keys or not self._add_uniform(keys, batch):
                for record in batch:
                    self._add_one(record)
        self.version += 1

    def _add_uniform(self, keys: tuple[str, ...], batch: list[Json]) -> bool:
        """The fast path: records of one shape, all values plain numbers. False if they are not."""
        if "step" not in keys:
            return False
        raw = dict(zip(keys, zip(*(r.values() for r in batch), strict=True), strict=True))
        columns: dict[str, Floats] = {}
        for key, values in raw.items():
            if key in RECORD_KEYS:
                continue
            kinds = set(map(type, values))
            if kinds <= {float, int}:
                try:
                    columns[key] = np.array(values, np.float64)
                except OverflowError:
                    return False
            elif kinds != {type(None)} and kinds & {float, int, str, type(None)}:
                return False
        kinds = set(map(type, raw["step"])) | set(map(type, raw.get("attempt", ())))
        if kinds != {int} or len(self._columns) + len(columns) > MAX_SERIES:
            return False
        try:
            steps = np.array(raw["step"], np.int64)
            attempts = np.array(raw.get("attempt", (0,) * len(batch)), np.int32)
        except OverflowError:
            return False
        if int(steps.min()) < 0 or int(steps.max()) > MAX_STEP or int(attempts.min()) < 0:
            return False
        for key, column in columns.items():
            self._column(key).extend(steps, column, attempts)
        self.records += len(batch)
        self.last_record = batch[-1]
        return True

    def _add_one(self, record: Json) -> None:
        step = _as_step(record.get("step"))
        if step is None:
            self.bad_lines += 1
            return
        attempt = _as_step(record.get("attempt")) or 0
        named = record.get("nonfinite")
        nonfinite = named if isinstance(named, dict) else {}
        for key, raw in record.items():
            if key in RECORD_KEYS:
                continue
            value = _as_value(raw, nonfinite.get(key))
            if value is None or (key not in self._columns and len(self._columns) >= MAX_SERIES):
                continue
            self._column(key).extend(
                np.array([step], np.int64),
                np.array([value], np.float64),
                np.array([min(attempt, 2**31 - 1)], np.int32),
            )
        self.records += 1
        self.last_record = record

    def _column(self, key: str) -> _Column:
        column = self._columns.get(key)
        if column is None:
            column = self._columns[key] = _Column()
        return column


def _as_step(raw: object) -> int | None:
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= MAX_STEP:
        return raw
    return None


def _as_value(raw: object, nonfinite: object) -> float | None:
    if raw is None:
        return parse_nonfinite(nonfinite) if isinstance(nonfinite, str) else None
    if isinstance(raw, str):
        return parse_nonfinite(raw)
    if not is_number(raw):
        return None
    try:
        return float(raw)  # type: ignore[arg-type]
    except OverflowError:
        return float("inf") if raw > 0 else float("-inf")  # type: ignore[operator]


class MetricsReader:
    """Follows one `metrics.jsonl` into a `MetricsTable`."""

    def __init__(self, path: Path) -> None:
        self._tailer = Tailer(path)
        self.table = MetricsTable()

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._tailer.offset

    def poll(self, max_bytes: int = 1 << 20) -> bool:
        """Read once; True when more is waiting. A replaced file starts a new table."""
        chunk = self._tailer.read(max_bytes)
        if chunk.restarted:
            self.table = MetricsTable()
        if chunk.lines:
            self.table.add_lines(chunk.lines)
        return chunk.more

    def read_all(self) -> MetricsTable:
        """Read to the present end of the file."""
        while self.poll(8 << 20):
            pass
        return self.table


def read_records(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The newest `limit` records of a JSON-lines file such as `events.jsonl`, junk skipped."""
    tailer = Tailer(path)
    blocks: list[bytes] = []
    while True:
        chunk = tailer.read(8 << 20)
        blocks.append(chunk.lines)
        if not chunk.more:
            break
    records, _ = parse_lines(b"".join(blocks))
    yield from records if limit is None else records[max(0, len(records) - limit) :]
