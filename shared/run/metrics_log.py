"""`metrics.jsonl` as numbers: one series per numeric key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.json_text import Json
from shared.run import scratch
from shared.run.foreign import CLOCKS, MAX_STEP, NONE, OURS, canonical, read_step
from shared.run.metrics_columns import (
    TIME,
    attempts_of,
    by_column,
    convert,
    named_nonfinite,
    whole_numbers,
)
from shared.run.metrics_facts import Facts
from shared.run.metrics_rows import Columns, Floats, Ints, Rows, Series
from shared.run.record_lines import parse_block, parse_line
from shared.run.records import RECORD_KEYS
from shared.run.tail import ByteTail, LineSplitter
from shared.run.text_form import TextForm

__all__ = ["MAX_SERIES", "TIME", "MetricsReader", "MetricsTable"]

MAX_SERIES = 10_000  # a file with ever new keys must not fill the memory
#: Seconds without a write after which a last line without a newline counts as complete.
QUIET = 2.0
_NOT_SERIES = RECORD_KEYS - {TIME}
_JOINED = 1 << 18  # rows joined at a time
#: Bytes parsed at a time: few enough that the records stay in the processor's cache, so many that
#: the work per column, whose number does not depend on it, is shared by hundreds of lines.
_PART = 256 << 10
_NOT_JSON = "are not JSON objects"
#: Columns by the indices of the records that have them; None: all records.
_Found = dict[tuple[int, ...] | None, dict[str, Floats]]


class MetricsTable:
    """All numeric series of a metrics log, extended as lines arrive."""

    def __init__(self, max_series: int = MAX_SERIES) -> None:
        self._max_series = max_series
        # Series that always appear together share their steps.
        self._rows: dict[str, Rows] = {}
        self.facts = Facts()
        self.version = 0
        #: How often something came that did not simply lead on: values from before may be others
        #: now.
        self.detours = 0

    @property
    def records(self) -> int:
        """Lines that were read."""
        return self.facts.records

    @property
    def bad_lines(self) -> int:
        """Lines that are not shown; `facts` tells why."""
        return self.facts.bad_lines

    @property
    def last_record(self) -> Json:
        """The record read last, flat and with its step under `step`."""
        return self.facts.last_record

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

    def join(self, columns: Iterable[Columns], facts: Facts) -> None:
        """Append what another table parsed from the following lines."""
        if self._accepts(facts.tier):
            for steps, attempts, values in columns:
                for start in range(0, len(steps), _JOINED):
                    part = slice(start, start + _JOINED)
                    some = {key: column[part] for key, column in values.items()}
                    self._append(steps[part], attempts[part], some)
                    self.release()
                    scratch.release(steps, attempts, *values.values())
        else:
            facts.give_up_records()
        self.facts.merge(facts)
        self.version += 1
        self.detours += 1  # it is not known where the other began

    def add_lines(self, block: bytes) -> None:
        """Append a block of complete lines."""
        start = 0
        while start < len(block):
            end = len(block)
            if end - start > 2 * _PART:
                end = block.find(b"\n", start + _PART) + 1 or end
            records, bad, nested = parse_block(block[start:end])
            self.facts.refuse_many(_NOT_JSON, bad)
            self._add(records, nested=nested)
            start = end
        self.version += 1

    def add_records(self, records: Iterable[Json]) -> None:
        """Append parsed records; those without a valid step count as bad lines."""
        self._add(list(records), nested=True)
        self.version += 1

    def _add(self, records: list[Json], *, nested: bool) -> None:
        """Convert the records by column: arrays are much cheaper than single numbers."""
        if not records:
            return
        common, sparse = by_column(records)
        steps = whole_numbers(common.get("step"), MAX_STEP)
        if (
            steps is None
            or (nested and _has_objects(records))
            or not (CLOCKS.isdisjoint(common) and CLOCKS.isdisjoint(sparse))
        ):
            records, steps = self._canonical(records)
            if not records:
                return
            common, sparse = by_column(records)
        elif self.facts.tier != OURS:
            self._accepts(OURS)
        attempts = attempts_of(common.get("attempt"), records)
        named = named_nonfinite(records) if "nonfinite" in (common | sparse) else None
        found: _Found = {}
        for key, values in common.items():
            if key not in _NOT_SERIES:
                convert(key, values, None, named, found)
        for key, (at, values) in sparse.items():
            if key not in _NOT_SERIES:
                convert(key, values, at, named, found)
        rising = self._advance(steps, attempts, found)
        names = common.get("phase")
        if names is not None or "phase" in sparse:
            self._follow_phases(records, steps, names if rising else None)
        for place, columns in found.items():
            if place is None:
                self._append(steps, attempts, columns)
            else:
                chosen = np.array(place, np.intp)
                self._append(steps[chosen], attempts[chosen], columns)
        self.facts.records += len(records)
        self.facts.last_record = records[-1]

    def _canonical(self, records: list[Json]) -> tuple[list[Json], Ints]:
        """The records with a valid step in the form of our own, and their steps."""
        facts = self.facts
        kept: list[Json] = []
        steps: list[int] = []
        for record in records:
            flat, key = canonical(record)
            if key is None:
                facts.refuse("have no step key", flat)
                continue
            step, matter = read_step(flat["step"])
            if step is None:
                facts.refuse(f"have {matter} ({key.name})", flat)
                continue
            if key.tier < facts.tier:
                facts.records += len(kept)  # given up with all before
                kept, steps = [], []
            if not self._accepts(key.tier):
                facts.refuse("have no step key like the others", flat)
                continue
            facts.rounded += matter != ""
            if key.name != "step" and key.name not in facts.step_keys:
                facts.step_keys.append(key.name)
            flat["step"] = step
            kept.append(flat)
            steps.append(step)
        return kept, np.array(steps, np.int64)

    def _accepts(self, tier: int) -> bool:
        """Whether records with a step key of that tier count. A better one than all so far ends
        the use of those before, whose steps count something else.
        """
        if tier > self.facts.tier:
            return False
        if tier < self.facts.tier:
            if self.facts.tier != NONE:
                self._rows = {}
                self.detours += 1
                self.facts.give_up_records()
            self.facts.tier = tier
        return True

    def _advance(self, steps: Ints, attempts: NDArray[np.int32], found: _Found) -> bool:
        """Follow where the newest pass is; True if these records only lead on from the others."""
        facts, attempt = self.facts, int(attempts[0])
        rising = bool((steps[1:] > steps[:-1]).all()) and int(steps[0]) >= facts.front
        facts.highest = max(facts.highest, int(steps.max()))
        if rising and facts.attempt in (attempt, -1) and bool((attempts == attempt).all()):
            facts.attempt, facts.front = attempt, int(steps[-1])
            return True
        keys = [list(found.get(None, ())) for _ in steps]
        for place, columns in found.items():
            for index in place or ():
                keys[index] += columns
        newest: dict[str, int] = {}
        for step, own, having in zip(steps.tolist(), attempts.tolist(), keys, strict=True):
            if own > facts.attempt:
                facts.attempt, facts.front = own, step
            elif own == 0 < facts.attempt:
                facts.front = max(facts.front, step)  # by somebody who knows of no attempts
            # A step back of a series that goes over steps again, not one of another series that
            # comes later, such as an evaluation.
            elif own == facts.attempt and (
                step >= facts.front
                or any(newest.get(key, self._newest_of(key)) > step for key in having)
            ):
                facts.front = step
            newest |= dict.fromkeys(having, step)
        self.detours += 1
        return False

    def _newest_of(self, key: str) -> int:
        rows = self._rows.get(key)
        return -1 if rows is None else rows.newest

    def _follow_phases(
        self, records: list[Json], steps: Ints, names: Sequence[object] | None
    ) -> None:
        """Take in the phase of each record; `names`, if all have one and lead on."""
        phases = self.facts.phases
        known = phases[-1][1] if phases else None
        if names is not None and names[0] == known and names.count(known) == len(names):
            return
        for record, step in zip(records, steps.tolist(), strict=True):
            name = record.get("phase")
            if isinstance(name, str) and name:
                self.facts.enter_phase(step, name)

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


def _has_objects(records: list[Json]) -> bool:
    return any(
        type(value) is dict and key != "nonfinite"
        for record in records
        for key, value in record.items()
    )


class MetricsReader:
    """Follows one `metrics.jsonl` into a `MetricsTable`, in any form that `TextForm` knows.

    A last line without a newline counts once nothing was written for `quiet` seconds.
    """

    def __init__(
        self, path: Path, *, quiet: float = QUIET, clock: Callable[[], float] = time.time
    ) -> None:
        self._bytes = ByteTail(path)
        self._quiet, self._clock = quiet, clock
        self._start_over()

    def _start_over(self) -> None:
        self.form = TextForm()
        self.table = MetricsTable()
        self._lines = LineSplitter()
        self._grew_at = self._clock()
        self._taken = b""  # the torn last line, if it is in the table
        self._tried = 0  # bytes of the torn line that were found to be no record

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._bytes.offset

    def poll(self, max_bytes: int = 1 << 20) -> bool:
        """Read once; True when there is more to read. A replaced file starts a new table."""
        if self.form.more:
            return self._take(self.form.feed(b""), more=True)
        piece = self._bytes.read(max_bytes)
        if piece.restarted:
            self._start_over()
        if piece.data:
            self._grew_at = self._clock()
            text = self.form.feed(piece.data)
            return self._take(text, more=piece.more or self.form.more)
        now = self._clock()
        if piece.written_at and now - min(piece.written_at, self._grew_at) >= self._quiet:
            return self._take_torn(self._lines.torn)
        return False

    def _take(self, text: bytes, *, more: bool) -> bool:
        lines = self._lines.feed(text) if text else b""
        if lines and self._taken:
            first, _, lines = lines.partition(b"\n")
            if first.strip() != self._taken:
                return self._again()
            self._taken = b""
        if lines:
            self.table.add_lines(lines)
            self._tried = 0
        return more

    def _take_torn(self, torn: bytes) -> bool:
        """The writer has gone quiet: what looks complete is."""
        line = torn.strip()
        if self._taken:
            return self._again() if line != self._taken else False
        if line and len(torn) != self._tried:
            self._tried = len(torn)
            if parse_line(line) is not None:
                self._taken = line
                self.table.add_lines(line + b"\n")
        return False

    def _again(self) -> bool:
        """The line that seemed complete was not: read everything again, without it."""
        self._bytes.rewind()
        self._start_over()
        return True

    def skip_to(self, offset: int, fd: int) -> bool:
        """See `ByteTail.skip_to`. The caller joins what was skipped to the table."""
        if not self.form.is_plain or self._lines.torn:
            return False
        return self._bytes.skip_to(offset, fd)

    def read_all(self) -> MetricsTable:
        """Read to the current end of the file."""
        while self.poll(8 << 20):
            pass
        return self.table
