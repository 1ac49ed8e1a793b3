"""The metrics of a run as CSV, in constant memory.

Two passes over one open file. The first finds the series, and the places where steps go back, as
they do when a run is resumed: between those places they only rise. The second merges these
stretches by step, some records of each at a time; `MetricsTable` decides which of several values
of a step counts.
"""

from __future__ import annotations

import csv
import io
import math
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.errors import UserError
from shared.json_text import Json
from shared.output_file import check_output, write_output
from shared.run.directory import RunDirectory
from shared.run.foreign import MAX_STEP
from shared.run.metrics_log import MAX_SERIES, MetricsTable
from shared.run.record_lines import parse_line
from shared.run.tail import MAX_LINE, READ_SIZE
from shared.text import nearest, one_line

_EXACT = 1 << 53  # up to which a float holds every integer

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Limits:
    """How much is read and held at a time. The result does not depend on them.

    A file of more than `stretches` is in no order at all and is held in memory as a whole.
    `buffered` is in records of all stretches, `least_ahead` in records of one; the others are
    bytes.
    """

    stretches: int = 64
    buffered: int = 16_384
    least_ahead: int = 256
    least_read: int = 1 << 16
    read_size: int = READ_SIZE
    line: int = MAX_LINE


_LIMITS = Limits()


@dataclass(frozen=True)
class CsvFile:
    """The file that was written."""

    rows: int
    keys: tuple[str, ...]
    bytes: int


def export_csv(
    run: RunDirectory,
    path: Path,
    keys: Sequence[str] | None = None,
    *,
    force: bool = False,
    advance: Advance = lambda _: None,
    limits: Limits = _LIMITS,
) -> CsvFile:
    """Write one row per step to `path`: the step, then the value of each series, empty for none.

    Of several values of a step, the last one of the highest attempt counts. Non-finite values are
    `nan`, `inf` and `-inf`. `keys` are the series to write, all by default. `advance` is called
    with the number of bytes read; the file is read twice. Raises UserError for an unknown key and
    if there are no metrics; see `write_output` for `path`.
    """
    check_output(path, force=force)
    fd = _open(run)
    try:
        log = _Log(fd, advance, limits)
        found = _survey(log, limits.stretches)
        chosen = _chosen(run, found.keys, keys)
        table = _Rows(log, found, chosen, limits)
        written = write_output(path, table.chunks(), force=force)
    finally:
        os.close(fd)
    return CsvFile(table.count, tuple(chosen), written)


def _open(run: RunDirectory) -> int:
    problem = f"Run {one_line(run.run_id)} has no metrics yet"
    try:
        fd = os.open(run.metrics_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise UserError(f"{problem}: {run.metrics_path.name} does not exist.") from error
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise UserError(f"{problem}: {run.metrics_path.name} is not a file.")


def _chosen(run: RunDirectory, known: Sequence[str], asked: Sequence[str] | None) -> list[str]:
    if not known:
        raise UserError(f"Run {one_line(run.run_id)} has no metrics yet.")
    for key in asked or ():
        if key not in known:
            some = ", ".join(one_line(k, 40) for k in known[:20])
            raise UserError(
                f"Run {one_line(run.run_id)} has no metric {one_line(key, 60)!r}"
                f"{one_line(nearest(key, known))}; it has {some}."
            )
    return list(dict.fromkeys(asked)) if asked else list(known)


class _Log:
    """The file as it was when it was opened, without what a live run appends later."""

    def __init__(self, fd: int, advance: Advance, limits: Limits) -> None:
        self._fd, self._advance, self._limits = fd, advance, limits
        self.size = os.fstat(fd).st_size

    def blocks(
        self, start: int, end: int, read_size: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """The complete lines in [start, end), in blocks, each with the offset of its first byte."""
        position = begun = start
        read_size = read_size or self._limits.read_size
        pieces: list[bytes] = []
        while position < end:
            data = os.pread(self._fd, min(read_size, end - position), position)
            if not data:
                return  # the file was truncated meanwhile
            position += len(data)
            self._advance(len(data))
            cut = data.rfind(b"\n") + 1
            if not cut:
                # A line too long to be a record is junk and skipped, with its newline.
                pieces = [*pieces, data] if position - begun <= self._limits.line else []
                continue
            head = data[:cut]
            if not pieces and begun < position - len(data):
                junk = head.find(b"\n") + 1
                head, begun = head[junk:], position - len(data) + junk
            yield begun, b"".join((*pieces, head))
            begun, rest = position - len(data) + cut, data[cut:]
            pieces = [rest] if rest else []


# -- the first pass ----------------------------------------------------------------------------


@dataclass
class _Survey:
    """The series in order of appearance; the stretches [start, end) in the order of the file."""

    keys: list[str] = field(default_factory=list)
    stretches: list[tuple[int, int]] = field(default_factory=list)


def _survey(log: _Log, max_stretches: int) -> _Survey:
    keys: dict[str, None] = {}
    starts, last = [0], -1
    for offset, block in log.blocks(0, log.size):
        at = offset
        records: list[Json] = []
        for line in block.split(b"\n"):
            record = parse_line(line) if line else None
            step = None if record is None else _step(record)
            if record is not None and step is not None:
                records.append(record)
                if step < last and len(starts) <= max_stretches:
                    starts.append(at)
                last = step
            at += len(line) + 1
        table = MetricsTable()
        table.add_records(records)
        keys.update(dict.fromkeys(table.keys()))
    ends = [*starts[1:], log.size]
    return _Survey(list(keys)[:MAX_SERIES], list(zip(starts, ends, strict=True)))


def _step(record: Json) -> int | None:
    """The step of a record; None if `MetricsTable` would reject the record."""
    step = record.get("step")
    if isinstance(step, float) and step.is_integer():
        step = int(step)
    whole = isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= MAX_STEP
    return step if whole else None


# -- the second pass ---------------------------------------------------------------------------


class _Stretch:
    """The records of one part of the file, in which steps never go back."""

    def __init__(self, log: _Log, start: int, end: int, read_size: int) -> None:
        self._blocks = log.blocks(start, end, read_size)
        self._waiting: deque[tuple[int, Json]] = deque()

    def look_ahead(self, count: int) -> int | None:
        """The step of the record `count` further on; None if fewer are left."""
        while len(self._waiting) < count and self._read():
            pass
        return self._waiting[count - 1][0] if len(self._waiting) >= count else None

    def take(self, limit: float) -> list[Json]:
        """The records up to the step `limit`."""
        taken: list[Json] = []
        while (self._waiting or self._read()) and self._waiting[0][0] <= limit:
            taken.append(self._waiting.popleft()[1])
        return taken

    def _read(self) -> bool:
        for _, block in self._blocks:
            for line in block.split(b"\n"):
                record = parse_line(line) if line else None
                step = None if record is None else _step(record)
                if record is not None and step is not None:
                    self._waiting.append((step, record))
            if self._waiting:
                return True
        return False


class _Rows:
    """The lines of the CSV file; `count` is the number of rows so far."""

    def __init__(self, log: _Log, found: _Survey, keys: Sequence[str], limits: Limits) -> None:
        self._log, self._found, self._keys, self._limits = log, found, keys, limits
        self.count = 0

    def chunks(self) -> Iterator[bytes]:
        """The heading, then the rows in parts."""
        heading = io.StringIO()
        # Without control characters that a terminal would obey.
        csv.writer(heading, lineterminator="\n").writerow(
            ["step", *(one_line(key) for key in self._keys)]
        )
        yield heading.getvalue().encode()
        for table in self._tables():
            yield from self._rows(table)

    def _tables(self) -> Iterator[MetricsTable]:
        """Tables of rising steps, each step in one of them."""
        limits, parts = self._limits, len(self._found.stretches)
        if parts > limits.stretches:
            yield self._whole_table()
            return
        read_size = max(limits.least_read, limits.read_size // parts)
        count = max(limits.least_ahead, limits.buffered // parts)
        stretches = [_Stretch(self._log, *x, read_size) for x in self._found.stretches]
        while True:
            ahead = [s for s in (x.look_ahead(count) for x in stretches) if s is not None]
            limit = min(ahead) if ahead else math.inf
            # In the order of the file: of equal attempts, the last one wins.
            table = MetricsTable()
            for stretch in stretches:
                table.add_records(stretch.take(limit))
            yield table
            if not ahead:
                return

    def _whole_table(self) -> MetricsTable:
        table = MetricsTable()
        for _, block in self._log.blocks(0, self._log.size):
            table.add_lines(block)
        return table

    def _rows(self, table: MetricsTable) -> Iterator[bytes]:
        series = [table.series(key) for key in self._keys]
        all_steps = np.unique(np.concatenate([s.steps for s in series]))
        self.count += len(all_steps)
        for first in range(0, len(all_steps), self._limits.buffered):
            steps = all_steps[first : first + self._limits.buffered]
            columns: list[list[str]] = [[str(step) for step in steps.tolist()]]
            for one in series:
                begin, end = np.searchsorted(one.steps, (steps[0], steps[-1] + 1))
                places = np.searchsorted(steps, one.steps[begin:end]).tolist()
                column = [""] * len(steps)
                for place, value in zip(places, one.values[begin:end].tolist(), strict=True):
                    column[place] = _number(value)
                columns.append(column)
            yield "".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode()


def _number(value: float) -> str:
    """The shortest text that parses to the same number."""
    if math.isfinite(value) and value == int(value) and abs(value) <= _EXACT:
        return str(int(value))
    return repr(value)
