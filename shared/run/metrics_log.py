"""`metrics.jsonl` as numbers: lines parsed whatever is in them, one series per numeric key."""

from __future__ import annotations

import contextlib
import json
import math
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from shared.run import scratch
from shared.run.records import RECORD_KEYS, SHALLOW, Json, is_number, is_too_deep, parse_nonfinite
from shared.run.tail import Tailer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_STEP = 1 << 53  # beyond it a float no longer counts steps
MAX_SERIES = 10_000  # a file of ever new keys must not fill memory
#: The key of each step's Unix time: no metric, but an axis to draw them on.
TIME = "time"
_NOT_SERIES = RECORD_KEYS - {TIME}
_MAX_ATTEMPT = 2**31 - 1
_JOINED = 1 << 18  # rows taken over at a time
_PART = 128 << 10  # bytes parsed at a time: what is made of them stays in the processor's cache
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
    if (quickly := _parse_uniform(block)) is not None:
        return quickly, 0
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


def _parse_uniform(block: bytes) -> list[Json] | None:
    """The records of a block that is one object per line and nothing else; None if unsure.

    They are parsed at once, as an array, in half the time. A newline stays between any two of
    them, so that no string can reach over it, and it stands between a closing and an opening
    brace: without another array in the block only the end of a record looks like that.
    """
    body = block.removesuffix(b"\n")
    if not (body.startswith(b"{") and body.endswith(b"}")) or b"[" in body:
        return None
    letters = np.frombuffer(body, np.uint8)
    newlines = np.flatnonzero(letters == ord("\n"))
    if not (
        len(newlines)
        and bool((letters[newlines - 1] == ord("}")).all())
        and bool((letters[newlines + 1] == ord("{")).all())
        and np.count_nonzero(letters == ord("{")) - len(newlines) <= SHALLOW // 2
    ):
        return None
    try:
        records: list[Json] = orjson.loads(b"[" + body.replace(b"\n", b",\n") + b"]")
    except ValueError:
        return None
    return records if len(records) == len(newlines) + 1 else None


@dataclass(frozen=True)
class Series:
    """One metric: `values[i]` at `steps[i]`, steps strictly increasing, both of shape (N,)."""

    key: str
    steps: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)


class _Rows:
    """Steps, and the columns that have a value at each of them.

    Rows are appended as they were written; order and duplicates are settled when they are read.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Floats] = {}
        self.size = 0
        self._steps: Ints = np.empty(64, np.int64)
        # Attempts are nearly always one and the same: then only that one is kept.
        self._attempt: int | None = None
        self._attempts: NDArray[np.int32] | None = None
        self._last_step = -1
        self._disorder = False

    def append(self, steps: Ints, attempts: NDArray[np.int32], columns: dict[str, Floats]) -> None:
        """Add rows; `columns` has the values of every column. All shapes (N,), N > 0."""
        end = self.size + len(steps)
        if end > len(self._steps):
            self._grow(max(end, 2 * len(self._steps)))
        self._steps[self.size : end] = steps
        for key, values in columns.items():
            self.columns[key][self.size : end] = values
        self._append_attempts(attempts, end)
        if steps[0] <= self._last_step or bool(np.any(steps[1:] <= steps[:-1])):
            self._disorder = True
        self._last_step = max(self._last_step, int(steps.max()))
        self.size = end

    def _append_attempts(self, attempts: NDArray[np.int32], end: int) -> None:
        first = int(attempts[0])
        if self._attempts is None:
            if self._attempt is None:
                self._attempt = first
            if first == self._attempt and bool((attempts == first).all()):
                return
            self._attempts = scratch.empty(len(self._steps), np.int32)
            self._attempts[: self.size] = self._attempt
        self._attempts[self.size : end] = attempts

    def _grow(self, capacity: int) -> None:
        self._steps = _enlarged(self._steps, self.size, capacity)
        if self._attempts is not None:
            self._attempts = _enlarged(self._attempts, self.size, capacity)
        for key, column in self.columns.items():
            self.columns[key] = _enlarged(column, self.size, capacity)

    def add_columns(self, keys: Iterable[str]) -> None:
        """Begin more columns, before the first row."""
        self.columns |= {key: np.empty(len(self._steps)) for key in keys}

    def split(self, keys: Iterable[str]) -> _Rows:
        """Move these columns to rows of their own, because they no longer come together."""
        other = _Rows()
        other.columns = {key: self.columns.pop(key) for key in keys}
        other.size, other._attempt = self.size, self._attempt
        other._last_step, other._disorder = self._last_step, self._disorder
        other._steps = _enlarged(self._steps, self.size, len(self._steps))
        if self._attempts is not None:
            other._attempts = _enlarged(self._attempts, self.size, len(self._steps))
        return other

    def read(self, key: str) -> Series:
        """One column, in order of steps. What is handed out never changes."""
        if self._disorder:
            self._settle()
        return Series(key, self._steps[: self.size], self.columns[key][: self.size])

    def _settle(self) -> None:
        """Sort by step; of equal steps keep the highest attempt, of those the last written."""
        n = self.size
        sorting = (self._steps[:n],)
        order = np.lexsort(sorting if self._attempts is None else (self._attempts[:n], *sorting))
        steps = self._steps[order]
        last = np.append(steps[1:] != steps[:-1], True)
        keep = order[last]
        # New arrays: those handed out by an earlier read must not change under their reader.
        self._steps = scratch.stored(self._steps[keep])
        if self._attempts is not None:
            self._attempts = scratch.stored(self._attempts[keep])
        self.columns = {key: scratch.stored(c[keep]) for key, c in self.columns.items()}
        self.size = len(keep)
        self._disorder = False

    def rows(self) -> Columns:
        """All that was appended, in that order, attempts included."""
        n = self.size
        attempts = self._attempts
        if attempts is None:
            attempts = np.full(n, self._attempt or 0, np.int32)
        values = {key: column[:n] for key, column in self.columns.items()}
        return self._steps[:n], attempts[:n], values

    def release(self) -> None:
        """Let memory go that need not be held."""
        scratch.release(self._steps, *self.columns.values())
        if self._attempts is not None:
            scratch.release(self._attempts)


def _enlarged(array: NDArray[Any], size: int, capacity: int) -> NDArray[Any]:
    larger = scratch.empty(capacity, array.dtype)
    larger[:size] = array[:size]
    scratch.release(array, larger)  # the two together would be much
    return larger


#: Steps, attempts and, by key, the values there: shapes (N,).
Columns = tuple[Ints, NDArray[np.int32], dict[str, Floats]]


class MetricsTable:
    """Every numeric series of a metrics log, appended to as lines arrive."""

    def __init__(self) -> None:
        # Series that have always come together share their steps.
        self._rows: dict[str, _Rows] = {}
        self.bad_lines = 0
        self.records = 0
        self.last_record: Json = {}
        self.version = 0

    def keys(self) -> list[str]:
        """The names of the series, in order of first appearance."""
        return [key for key in self._rows if key != TIME]

    def series(self, key: str) -> Series:
        """The series of `key`; an empty one if there is none.

        `TIME` is there too, the Unix seconds of each step, though it is no metric.
        """
        rows = self._rows.get(key)
        if rows is None:
            return Series(key, np.empty(0, np.int64), np.empty(0, np.float64))
        return rows.read(key)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the series take."""
        shared = {id(rows): rows for rows in self._rows.values()}
        return sum(rows.size * 8 * (1 + len(rows.columns)) for rows in shared.values())

    def release(self) -> None:
        """Let the memory of long series go; they are read from disk again where they are used."""
        for rows in {id(rows): rows for rows in self._rows.values()}.values():
            rows.release()

    def columns(self) -> Iterator[Columns]:
        """Everything, for `join`: each series once, with those that share its steps."""
        for rows in {id(rows): rows for rows in self._rows.values()}.values():
            yield rows.rows()

    def join(
        self, columns: Iterable[Columns], records: int, bad_lines: int, last_record: Json
    ) -> None:
        """Take in what another table made of the lines that follow."""
        for steps, attempts, values in columns:
            for start in range(0, len(steps), _JOINED):
                part = slice(start, start + _JOINED)
                some = {key: column[part] for key, column in values.items()}
                self._append(steps[part], attempts[part], some)
                self.release()
                scratch.release(steps, attempts, *values.values())
        self.records += records
        self.bad_lines += bad_lines
        self.last_record = last_record or self.last_record
        self.version += 1

    def add_lines(self, block: bytes) -> None:
        """Take in a block of whole lines."""
        start = 0
        while start < len(block):
            end = len(block)
            if end - start > 2 * _PART:
                end = block.find(b"\n", start + _PART) + 1 or end
            records, bad = parse_lines(block[start:end])
            self.bad_lines += bad
            self._add(records)
            start = end
        self.version += 1

    def add_records(self, records: Iterable[Json]) -> None:
        """Take in parsed records; those without a usable step count as bad lines."""
        self._add(list(records))
        self.version += 1

    def _add(self, records: list[Json]) -> None:
        """Column by column, because numbers are cheap in an array and dear one by one."""
        if not records:
            return
        common, sparse = _by_column(records)
        steps = _whole_numbers(common.get("step"), MAX_STEP)
        if steps is None:
            records, steps = self._with_steps(records)
            if not records:
                return
            common, sparse = _by_column(records)
        attempts = _attempts(common.get("attempt"), records)
        named = _named_nonfinite(records) if "nonfinite" in (common | sparse) else None
        # Columns by the records that hold them: all of them for most.
        found: dict[tuple[int, ...] | None, dict[str, Floats]] = {}
        for key, values in common.items():
            if key not in _NOT_SERIES:
                _convert(key, values, None, named, found)
        for key, (at, values) in sparse.items():
            if key not in _NOT_SERIES:
                _convert(key, values, at, named, found)
        for place, columns in found.items():
            if place is None:
                self._append(steps, attempts, columns)
            else:
                chosen = np.array(place, np.intp)
                self._append(steps[chosen], attempts[chosen], columns)
        self.records += len(records)
        self.last_record = records[-1]

    def _with_steps(self, records: list[Json]) -> tuple[list[Json], Ints]:
        """The records with a usable step, and their steps."""
        steps = [_as_step(record.get("step")) for record in records]
        kept = [record for record, step in zip(records, steps, strict=True) if step is not None]
        self.bad_lines += len(records) - len(kept)
        return kept, np.array([step for step in steps if step is not None], np.int64)

    def _append(self, steps: Ints, attempts: NDArray[np.int32], columns: dict[str, Floats]) -> None:
        """Add rows to these columns, and see to it that only columns of equal rows share them."""
        new = [key for key in columns if key not in self._rows]
        new = new[: max(0, MAX_SERIES - len(self._rows))]
        if new:
            rows = _Rows()
            rows.add_columns(new)
            self._rows |= dict.fromkeys(new, rows)
        for rows in {id(r): r for key in columns if (r := self._rows.get(key))}.values():
            present = [key for key in rows.columns if key in columns]
            together = rows
            if len(present) < len(rows.columns):
                together = rows.split(present)
                self._rows |= dict.fromkeys(present, together)
            together.append(steps, attempts, {key: columns[key] for key in present})


def _whole_numbers(raw: Sequence[Any] | None, most: int) -> Ints | None:
    """`raw` as an array, if these are all integers from 0 to `most`."""
    if raw is None or set(map(type, raw)) != {int}:
        return None
    try:
        numbers = np.array(raw, np.int64)
    except OverflowError:
        return None
    return numbers if numbers.min() >= 0 and numbers.max() <= most else None


def _attempts(raw: Sequence[Any] | None, records: list[Json]) -> NDArray[np.int32]:
    """The attempt of each record; `raw` has them if they are all there."""
    if raw is None:
        raw = [record.get("attempt", 0) for record in records]
    numbers = _whole_numbers(raw, _MAX_ATTEMPT)
    if numbers is None:
        numbers = np.array([min(_as_step(x) or 0, _MAX_ATTEMPT) for x in raw], np.int64)
    return numbers.astype(np.int32)


def _named_nonfinite(records: list[Json]) -> list[Json]:
    """What each record says of its non-finite numbers."""
    named = (record.get("nonfinite") for record in records)
    return [names if isinstance(names, dict) else {} for names in named]


Sparse = dict[str, tuple[list[int], list[Any]]]


def _by_column(records: list[Json]) -> tuple[dict[str, Sequence[Any]], Sparse]:
    """The values of each key that all records have, and of the others with the records' indices."""
    sizes = set(map(len, records))
    complete = min(sizes)
    keys = list(next(record for record in records if len(record) == complete))
    try:
        # Two keys at least, so that there are always tuples.
        rows = list(map(itemgetter(*keys, *keys[:1]), records)) if keys else []
    except KeyError:
        shared = set(keys).intersection(*records)
        keys, complete = [key for key in keys if key in shared], -1
        rows = [tuple(record[key] for key in keys) for record in records]
    common: dict[str, Sequence[Any]] = dict(zip(keys, zip(*rows, strict=True), strict=False))
    sparse: Sparse = {}
    if sizes == {complete}:
        return common, sparse
    for index, record in enumerate(records):
        if len(record) == complete:
            continue  # it has these keys and no others
        for key, value in record.items():
            if key not in common:
                at, raw = sparse.setdefault(key, ([], []))
                at.append(index)
                raw.append(value)
    return common, sparse


def _convert(
    key: str,
    raw: Sequence[Any],
    at: list[int] | None,
    named: list[Json] | None,
    found: dict[tuple[int, ...] | None, dict[str, Floats]],
) -> None:
    """Put the numbers among `raw` into `found`, under the indices of their records (None: all)."""
    kinds = set(map(type, raw))
    if kinds <= {float, int}:
        with contextlib.suppress(OverflowError):
            place = None if at is None else tuple(at)
            numbers = np.frombuffer(struct.pack(f"={len(raw)}d", *raw))
            found.setdefault(place, {})[key] = numbers
            return
    elif not kinds & {float, int, str} and named is None:
        return
    indices = range(len(raw)) if at is None else at
    values = [
        _as_value(value, named[i].get(key) if named else None)
        for i, value in zip(indices, raw, strict=True)
    ]
    kept = [i for i, value in zip(indices, values, strict=True) if value is not None]
    if not kept:
        return
    whole = at is None and len(kept) == len(values)
    found.setdefault(None if whole else tuple(kept), {})[key] = np.array(
        [value for value in values if value is not None], np.float64
    )


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

    def skip_to(self, offset: int, fd: int) -> bool:
        """See `Tailer.skip_to`; what was skipped has to be joined to the table."""
        return self._tailer.skip_to(offset, fd)

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
