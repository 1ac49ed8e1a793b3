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
from shared.run.sketch import read_sketch
from shared.run.spread import LEAST_READ, spread_lines
from shared.run.text_form import TextForm

SAMPLES = 900
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
    is read whole; of a larger one, at least `least_read` bytes at each place. Of a file whose
    beginning alone is here the lines of its sketch are taken.
    """
    sketch = read_sketch(path)
    if sketch is not None:
        found = [line for _, line in sketch.lines]
        chosen = min(len(found), samples)
        last = len(found) - 1
        lines = [found[i * last // max(1, chosen - 1)] for i in range(chosen)]
        return _of_lines(lines, sketch.size, approximate=True)
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
            lines = [line for _, line in spread_lines(fd, 0, size, max(2, samples), least_read)]
    except OSError:
        return Skim()
    finally:
        os.close(fd)
    return _of_lines(lines, size, approximate=size > small)


def _of_lines(lines: Sequence[bytes], size: int, *, approximate: bool) -> Skim:
    table = MetricsTable()
    records = [r for line in lines if line and (r := parse_line(line)) is not None]
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
