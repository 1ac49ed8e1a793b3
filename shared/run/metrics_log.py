"""`metrics.jsonl` as numbers: one series per numeric key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.json_text import Json
from shared.run import scratch
from shared.run.metrics_columns import (
    MAX_STEP,
    as_step,
    attempts_of,
    by_column,
    convert,
    named_nonfinite,
    whole_numbers,
)
from shared.run.metrics_rows import Columns, Floats, Ints, Rows, Series
from shared.run.record_lines import parse_lines
from shared.run.records import RECORD_KEYS
from shared.run.tail import Tailer

MAX_SERIES = 10_000  # a file with ever new keys must not fill the memory
#: The key of each step's Unix time: an axis of charts, not a metric.
TIME = "time"
_NOT_SERIES = RECORD_KEYS - {TIME}
_JOINED = 1 << 18  # rows joined at a time
_PART = 128 << 10  # bytes parsed at a time: the result fits into the processor's cache


class MetricsTable:
    """All numeric series of a metrics log, extended as lines arrive."""

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self._max_series = max_series
        # Series that always appear together share their steps.
        self._rows: dict[str, Rows] = {}
        self.bad_lines = 0
        self.records = 0
        self.last_record: Json = {}
        self.version = 0

    def keys(self) -> list[str]:
        """The names of the series, in order of first appearance."""
        return [key for key in self._rows if key != TIME]

    def series(self, key: str) -> Series:
        """The series of `key`, empty if there is none.

        `TIME` is available too: the Unix seconds of each step.
        """
        rows = self._rows.get(key)
        if rows is None:
            return Series(key, np.empty(0, np.int64), np.empty(0, np.float64))
        return rows.read(key)

    @property
    def nbytes(self) -> int:
        """The size of all series in bytes."""
        shared = {id(rows): rows for rows in self._rows.values()}
        return sum(rows.size * 8 * (1 + len(rows.columns)) for rows in shared.values())

    def release(self) -> None:
        """Release the memory of long series; they are read from disk when used."""
        for rows in {id(rows): rows for rows in self._rows.values()}.values():
            rows.release()

    def columns(self) -> Iterator[Columns]:
        """All series for `join`, grouped by shared steps."""
        for rows in {id(rows): rows for rows in self._rows.values()}.values():
            yield rows.rows()

    def join(
        self, columns: Iterable[Columns], records: int, bad_lines: int, last_record: Json
    ) -> None:
        """Append what another table parsed from the following lines."""
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
        """Append a block of complete lines."""
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
        """Append parsed records; those without a valid step count as bad lines."""
        self._add(list(records))
        self.version += 1

    def _add(self, records: list[Json]) -> None:
        """Convert the records by column: arrays are much cheaper than single numbers."""
        if not records:
            return
        common, sparse = by_column(records)
        steps = whole_numbers(common.get("step"), MAX_STEP)
        if steps is None:
            records, steps = self._with_steps(records)
            if not records:
                return
            common, sparse = by_column(records)
        attempts = attempts_of(common.get("attempt"), records)
        named = named_nonfinite(records) if "nonfinite" in (common | sparse) else None
        # Columns by the records that contain them; None: all records.
        found: dict[tuple[int, ...] | None, dict[str, Floats]] = {}
        for key, values in common.items():
            if key not in _NOT_SERIES:
                convert(key, values, None, named, found)
        for key, (at, values) in sparse.items():
            if key not in _NOT_SERIES:
                convert(key, values, at, named, found)
        for place, columns in found.items():
            if place is None:
                self._append(steps, attempts, columns)
            else:
                chosen = np.array(place, np.intp)
                self._append(steps[chosen], attempts[chosen], columns)
        self.records += len(records)
        self.last_record = records[-1]

    def _with_steps(self, records: list[Json]) -> tuple[list[Json], Ints]:
        """The records with a valid step, and their steps."""
        steps = [as_step(record.get("step")) for record in records]
        kept = [record for record, step in zip(records, steps, strict=True) if step is not None]
        self.bad_lines += len(records) - len(kept)
        return kept, np.array([step for step in steps if step is not None], np.int64)

    def _append(self, steps: Ints, attempts: NDArray[np.int32], columns: dict[str, Floats]) -> None:
        """Add rows to these columns; columns share rows only while all their rows are equal."""
        new = [key for key in columns if key not in self._rows]
        new = new[: max(0, self._max_series - len(self._rows))]
        if new:
            rows = Rows()
            rows.add_columns(new)
            self._rows |= dict.fromkeys(new, rows)
        for rows in {id(r): r for key in columns if (r := self._rows.get(key))}.values():
            present = [key for key in rows.columns if key in columns]
            together = rows
            if len(present) < len(rows.columns):
                together = rows.split(present)
                self._rows |= dict.fromkeys(present, together)
            together.append(steps, attempts, {key: columns[key] for key in present})


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
        """Read once; True when there is more to read. A replaced file starts a new table."""
        chunk = self._tailer.read(max_bytes)
        if chunk.restarted:
            self.table = MetricsTable()
        if chunk.lines:
            self.table.add_lines(chunk.lines)
        return chunk.more

    def skip_to(self, offset: int, fd: int) -> bool:
        """See `Tailer.skip_to`. The caller joins what was skipped to the table."""
        return self._tailer.skip_to(offset, fd)

    def read_all(self) -> MetricsTable:
        """Read to the current end of the file."""
        while self.poll(8 << 20):
            pass
        return self.table
