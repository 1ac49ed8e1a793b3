"""An approximate curve at once: evenly spaced lines of a metrics log, however large it is."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.files import open_file
from shared.json_text import Json, is_number
from shared.run.foreign import canonical
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Series
from shared.run.record_lines import parse_line
from shared.run.records import RECORD_KEYS
from shared.run.text_form import TextForm

SAMPLES = 900
#: Places without a line end within so many bytes are skipped.
MAX_LINE = 64 << 10
LEAST_READ = 512  # bytes; longer than a typical line plus the partial one before it
_HEAD = 4096  # bytes
#: Files up to this size are read whole, which takes no longer.
SMALL = 256 << 10  # bytes


@dataclass(frozen=True)
class Skim:
    """Series of what was read, by key. `size` is that of the file, in bytes.

    While `approximate`, the series hold only some of the steps: draw them until the exact ones
    are there, and say so.
    """

    series: Mapping[str, Series] = field(default_factory=dict)
    approximate: bool = False
    size: int = 0
    lines: int = 0
    #: The step after which all is of a pass that was given up; None: nowhere.
    given_up_after: int | None = None


def skim(
    path: Path, samples: int = SAMPLES, *, small: int = SMALL, least_read: int = LEAST_READ
) -> Skim:
    """Whole lines at about `samples` evenly spaced places of `path`, the first and last included.

    A missing or unreadable file gives an empty skim. Junk lines are passed over. Steps that a
    later attempt took again are left out, as the exact reader does. A file of up to `small` bytes
    is read whole; of a larger one, at least `least_read` bytes at each place.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # no pipe stops us
    except OSError:
        return Skim()
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return Skim()
        size = status.st_size
        if size <= small:
            # A last line without a newline is left out if it is no record.
            form = TextForm()
            lines = form.feed(os.pread(fd, size, 0)).split(b"\n")
        elif not _is_plain(os.pread(fd, _HEAD, 0)):
            return Skim()
        else:
            lines = _spread_lines(fd, size, max(2, samples), least_read)
    except OSError:
        return Skim()
    finally:
        os.close(fd)
    table = MetricsTable()
    records = [r for line in lines if line and (r := parse_line(line)) is not None]
    approximate = size > small
    if approximate:
        records = [canonical(record)[0] for record in records]
    table.add_records(without_retaken(records) if approximate else records)
    series = {key: table.series(key) for key in table.keys()}  # noqa: SIM118
    return Skim(series, approximate, size, table.records, table.facts.given_up_after)


def is_plain(path: Path) -> bool:
    """Whether the file is lines of UTF-8; a missing or unreadable one is."""
    try:
        with open_file(path) as file:
            head = file.read(_HEAD)
    except OSError:
        return True
    return not head or _is_plain(head)


def _is_plain(head: bytes) -> bool:
    form = TextForm()
    form.feed(head)
    return form.is_plain


def _spread_lines(fd: int, size: int, samples: int, least_read: int) -> list[bytes]:
    """The first line, the line after each of evenly spaced places, and the last whole line."""
    lines: list[bytes] = []
    last_start = -1
    length = least_read
    for i in range(samples - 1):
        at = i * size // (samples - 1)
        if at <= last_start:
            continue  # within the line found last
        found = _line_after(fd, at, length)
        if found is None:
            continue
        start, line = found
        if start <= last_start:
            continue
        last_start = start
        lines.append(line)
        length = max(least_read, 2 * len(line))
    found = _last_line(fd, size, length)
    if found is not None and found[0] > last_start:
        lines.append(found[1])
    return lines


def _line_after(fd: int, at: int, length: int) -> tuple[int, bytes] | None:
    """The first line that begins at or after `at`, and where. None if it is overlong or torn."""
    begin = max(0, at - 1)  # a newline just before makes `at` itself the beginning
    while True:
        data = os.pread(fd, length, begin)
        start = 0 if at == 0 else data.find(b"\n") + 1
        if start or at == 0:
            end = data.find(b"\n", start)
            if end >= 0:
                return begin + start, data[start:end]
        if len(data) < length or length >= MAX_LINE:
            return None
        length = min(MAX_LINE, 4 * length)


def _last_line(fd: int, size: int, length: int) -> tuple[int, bytes] | None:
    while True:
        begin = max(0, size - length)
        data = os.pread(fd, size - begin, begin)
        end = data.rfind(b"\n")
        start = data.rfind(b"\n", 0, max(0, end)) + 1
        if end >= 0 and (start or begin == 0):
            return begin + start, data[start:end]
        if begin == 0 or length >= MAX_LINE:
            return None
        length = min(MAX_LINE, 4 * length)


def without_retaken(records: Sequence[Json]) -> list[Json]:
    """`records`, in the order of the file, without those a later pass went over again.

    After a resume or a rollback the same steps are written again. The exact reader lets the later
    record of a step win; of a sample hardly any step is there twice, and both passes would be
    drawn as one jagged curve. So a record goes when a later pass, of the same attempt or a higher
    one and with the same keys, reaches from before its step to beyond it.
    """
    passes: list[_Pass] = []
    current: dict[tuple[str, ...], _Pass] = {}
    own: list[tuple[float, _Pass] | None] = []
    for record in records:
        step: Any = record.get("step")
        attempt: Any = record.get("attempt", 0)
        if not is_number(step) or not is_number(attempt):
            own.append(None)
            continue
        keys = tuple(sorted(key for key in record if key not in RECORD_KEYS))
        at = current.get(keys)
        if at is None or at.attempt != attempt or step < at.last:
            at = current[keys] = _Pass(len(passes), keys, attempt, step, step)
            passes.append(at)
        at.last = step
        own.append((step, at))
    if len(passes) <= len(current):
        return list(records)
    later: dict[int, list[_Pass]] = {}
    kept: list[Json] = []
    for record, found in zip(records, own, strict=True):
        if found is not None:
            step, at = found
            if at.number not in later:
                later[at.number] = [
                    p
                    for p in passes[at.number + 1 :]
                    if p.keys == at.keys and p.attempt >= at.attempt
                ]
            if any(p.first <= step <= p.last for p in later[at.number]):
                continue
        kept.append(record)
    return kept


@dataclass
class _Pass:
    """Records of equal keys in rising order of steps, as one attempt wrote them."""

    number: int
    keys: tuple[str, ...]
    attempt: float
    first: float
    last: float
