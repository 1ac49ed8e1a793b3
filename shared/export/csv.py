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
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shared.errors import UserError
from shared.json_text import Json
from shared.output_file import check_output, write_output
from shared.run.directory import RunDirectory
from shared.run.foreign import MAX_STEP, OURS, canonical, read_step
from shared.run.metrics_log import MAX_SERIES, TIME, MetricsTable
from shared.run.metrics_rows import Ints, Series
from shared.run.numbers import shortest
from shared.run.record_lines import parse_line
from shared.run.tail import MAX_LINE, READ_SIZE, LineSplitter
from shared.run.text_form import TextForm
from shared.text import nearest, one_line

#: What a record says about itself, beside its time.
_LABELS = ("phase", "attempt")
_ABOUT = frozenset({TIME, *_LABELS})

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
    """Write one row per step to `path`: the step; the value of each series, empty for none; its
    time, phase and attempt, where the log has them.

    Of several values of a step, the last one of the highest attempt counts. Non-finite values are
    `nan`, `inf` and `-inf`. `keys` are the columns to write, all by default. `advance` is called
    with the number of bytes read; the file is read twice. Raises UserError for an unknown key and
    if there are no metrics; see `write_output` for `path`.
    """
    check_output(path, force=force)
    fd = _open(run)
    try:
        log = _Log(fd, advance, limits)
        found = _survey(log, limits.stretches)
        chosen = _chosen(run, [*found.keys, *found.about], keys)
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
    if not set(known) - _ABOUT:
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
        if pieces and parse_line(b"".join(pieces)) is not None:
            yield begun, b"".join((*pieces, b"\n"))  # complete but for its newline

    def decoded(self) -> Iterator[bytes]:
        """All lines in UTF-8, whatever the form of the file."""
        form, lines, at = TextForm(), LineSplitter(self._limits.line), 0
        while form.more or at < self.size:
            data = b""
            if not form.more:
                data = os.pread(self._fd, min(self._limits.read_size, self.size - at), at)
                if not data:
                    break  # the file was truncated meanwhile
            at += len(data)
            self._advance(len(data))
            yield lines.feed(form.feed(data))
        if parse_line(lines.torn) is not None:
            yield lines.torn + b"\n"


# -- the first pass ----------------------------------------------------------------------------


@dataclass
class _Survey:
    """The series in order of appearance; the stretches [start, end) in the order of the file.

    `about` are the columns beside the series. A log that is not `own` is one of another program:
    its steps have another name, or it has to be decoded.
    """

    keys: list[str] = field(default_factory=list)
    stretches: list[tuple[int, int]] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    own: bool = True


def _survey(log: _Log, max_stretches: int) -> _Survey:
    keys: dict[str, None] = {}
    about: set[str] = set()
    starts, last = [0], -1
    for offset, block in log.blocks(0, log.size):
        at = offset
        records: list[Json] = []
        for line in block.split(b"\n"):
            record, step = _own(line)
            if step is not None:
                records.append(record)
                about.update(_ABOUT & record.keys())
                if step < last and len(starts) <= max_stretches:
                    starts.append(at)
                last = step
            at += len(line) + 1
        table = MetricsTable()
        table.add_records(records)
        keys.update(dict.fromkeys(table.keys()))
    if last < 0:
        return _survey_of_another(log)
    ends = [*starts[1:], log.size]
    stretches = list(zip(starts, ends, strict=True))
    return _Survey(list(keys)[:MAX_SERIES], stretches, _ordered(about))


def _survey_of_another(log: _Log) -> _Survey:
    part = _Part()
    for lines in log.decoded():
        part.add_lines(lines)
    about = {key for record in part.about.values() for key in record}
    if len(part.table.series(TIME)):
        about.add(TIME)
    return _Survey(part.table.keys(), [], _ordered(about), own=False)


def _ordered(about: Collection[str]) -> list[str]:
    return [key for key in (TIME, *_LABELS) if key in about]


def _own(line: bytes) -> tuple[Json, int | None]:
    """A record in the form of our own, and its step; None if `MetricsTable` would reject it."""
    record = parse_line(line) if line else None
    if record is None:
        return {}, None
    step = record.get("step")
    usual = type(step) is int and 0 <= step <= MAX_STEP and TIME in record
    if usual and dict not in map(type, record.values()):
        return record, step
    flat, key = canonical(record)
    if key is None or key.tier != OURS:
        return {}, None
    return flat, read_step(flat["step"])[0]


class _Part:
    """A table of some records, and what the record of each step says about itself."""

    def __init__(self) -> None:
        self.table = MetricsTable()
        self.about: dict[int, Json] = {}

    def add(self, records: list[Json]) -> None:
        """Append records in the order of the file."""
        self.table.add_records(records)
        for record in records:
            step, attempt = read_step(record.get("step"))[0], _attempt(record)
            if step is not None and attempt >= _attempt(self.about.get(step, {})):
                self.about[step] = {key: record[key] for key in _LABELS if key in record}

    def add_lines(self, lines: bytes) -> None:
        """Append whole lines."""
        records = [r for line in lines.split(b"\n") if line and (r := parse_line(line)) is not None]
        self.add([canonical(record)[0] for record in records])


def _attempt(record: Json) -> int:
    attempt = record.get("attempt", 0)
    return attempt if type(attempt) is int else 0


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
                record, step = _own(line)
                if step is not None:
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
        for part in self._parts():
            yield from self._rows(part)

    def _parts(self) -> Iterator[_Part]:
        """Tables of rising steps, each step in one of them."""
        limits, parts = self._limits, len(self._found.stretches)
        if parts > limits.stretches or not self._found.own:
            yield self._whole()
            return
        read_size = max(limits.least_read, limits.read_size // parts)
        count = max(limits.least_ahead, limits.buffered // parts)
        stretches = [_Stretch(self._log, *x, read_size) for x in self._found.stretches]
        while True:
            ahead = [s for s in (x.look_ahead(count) for x in stretches) if s is not None]
            limit = min(ahead) if ahead else math.inf
            # In the order of the file: of equal attempts, the last one wins.
            part = _Part()
            for stretch in stretches:
                part.add(stretch.take(limit))
            yield part
            if not ahead:
                return

    def _whole(self) -> _Part:
        part = _Part()
        if self._found.own:
            for _, block in self._log.blocks(0, self._log.size):
                part.add([r for r, step in map(_own, block.split(b"\n")) if step is not None])
        else:
            for lines in self._log.decoded():
                part.add_lines(lines)
        return part

    def _rows(self, part: _Part) -> Iterator[bytes]:
        series = {key: part.table.series(key) for key in self._keys if key not in _LABELS}
        measured = [one.steps for key, one in series.items() if key != TIME]
        all_steps = np.unique(np.concatenate(measured or [np.array([*part.about], np.int64)]))
        self.count += len(all_steps)
        for first in range(0, len(all_steps), self._limits.buffered):
            steps = all_steps[first : first + self._limits.buffered]
            columns: list[list[str]] = [[str(step) for step in steps.tolist()]]
            for key in self._keys:
                if key in series:
                    columns.append(_column(series[key], steps))
                else:
                    told = (part.about.get(step, {}).get(key) for step in steps.tolist())
                    columns.append([_text(value) for value in told])
            yield "".join(",".join(row) + "\n" for row in zip(*columns, strict=True)).encode()


def _column(series: Series, steps: Ints) -> list[str]:
    """The values of a series at `steps`, empty where it has none."""
    begin, end = np.searchsorted(series.steps, (steps[0], steps[-1] + 1))
    places = np.searchsorted(steps, series.steps[begin:end]).tolist()
    column = [""] * len(steps)
    for place, value in zip(places, series.values[begin:end].tolist(), strict=True):
        column[place] = shortest(value)
    return column


def _text(value: object) -> str:
    if value is None:
        return ""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([one_line(value)])
    return line.getvalue()
