"""The second half of a very long metrics log, parsed by another process meanwhile.

Parsing uses one core, and the reading process has a screen to draw. The helper returns whole
columns in a temporary file; if it fails, the log is read without it.

    python -m monitor.data.bulk LOG_FD ANSWER_FD START END
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from shared.json_text import encode_json
from shared.run.metrics_facts import Facts
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Columns

_SLICE = 1 << 20
_RELEASED_EACH = 32 << 20  # bytes read between two releases of memory
_PATIENCE = 0.02  # seconds
_LONGEST_LINE = 1 << 20
_HEAD = 16  # bytes that hold the length of the header


@dataclass(frozen=True)
class Parsed:
    """Columns of the log's lines from `start` to `end`, offsets in bytes."""

    start: int
    end: int
    columns: list[Columns]
    facts: Facts


class Helper:
    """Parses a log from about its middle on. `start` is where; `fd` the log."""

    def __init__(self, path: Path, python: str = sys.executable) -> None:
        """Start it with this interpreter. Raises OSError when it cannot be started."""
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self._answer = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        try:
            size = os.fstat(self.fd).st_size
            self.start = _line_start(self.fd, size // 2)
            fds = (self.fd, self._answer.fileno())
            self._process = subprocess.Popen(
                [python, "-m", "monitor.data.bulk"]
                + [str(number) for number in (*fds, self.start, size)],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except OSError:
            os.close(self.fd)
            self._answer.close()
            raise

    def is_done(self) -> bool:
        """Whether it has ended; waits a moment for it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        return self._process.returncode is not None

    def parsed(self) -> Parsed | None:
        """What it found, once it is done; None if it failed."""
        if self._process.returncode:
            return None
        try:
            data = mmap.mmap(self._answer.fileno(), 0, access=mmap.ACCESS_READ)
            return _unpacked(data)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """End it and close its files."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._answer.close()
        with contextlib.suppress(OSError):
            os.close(self.fd)


def _line_start(fd: int, at: int) -> int:
    """Where the first line after `at` begins. Raises OSError if none is near."""
    found = os.pread(fd, _LONGEST_LINE, at).find(b"\n")
    if found < 0:
        raise OSError("no line ends there")
    return at + found + 1


def _unpacked(data: mmap.mmap) -> Parsed:
    length = int(data[:_HEAD])
    head = orjson.loads(data[_HEAD : _HEAD + length])
    at = _HEAD + length
    at += -at % 8
    columns: list[Columns] = []

    def take(dtype: Any, size: int) -> np.ndarray[Any, Any]:
        nonlocal at
        array = np.frombuffer(data, dtype, size, at)
        at += array.nbytes + -array.nbytes % 8
        return array

    for group in head["columns"]:
        size = group["size"]
        steps, attempts = take(np.int64, size), take(np.int32, size)
        columns.append((steps, attempts, {key: take(np.float64, size) for key in group["keys"]}))
    return Parsed(head["start"], head["end"], columns, Facts.from_json(head["facts"]))


def parse_range(fd: int, start: int, end: int) -> tuple[MetricsTable, int]:
    """The whole lines from `start`, where one begins, to `end`; and where the last one ends."""
    table = MetricsTable()
    at, rest, released = start, b"", start
    while at < end:
        data = os.pread(fd, min(_SLICE, end - at), at)
        if not data:
            break
        at += len(data)
        block, _, rest = (rest + data).rpartition(b"\n")
        if block:
            table.add_lines(block + b"\n")
        if at - released > _RELEASED_EACH:
            released = at
            table.release()
        if len(rest) > _LONGEST_LINE:
            raise ValueError("a line without end")
    return table, at - len(rest)


def answer(fd: int, table: MetricsTable, start: int, end: int) -> None:
    """Write what `_unpacked` reads."""
    found = list(table.columns())
    head = encode_json(
        {
            "start": start,
            "end": end,
            "facts": table.facts.to_json(),
            "columns": [{"size": len(steps), "keys": list(values)} for steps, _, values in found],
        }
    )
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(b"%-*d" % (_HEAD, len(head)) + head)
        file.write(bytes(-file.tell() % 8))
        for steps, attempts, values in found:
            arrays: list[np.ndarray[Any, Any]] = [steps, attempts, *values.values()]
            for array in arrays:
                file.write(np.ascontiguousarray(array).data)
                file.write(bytes(-array.nbytes % 8))


def main() -> int:
    """Run as the helper."""
    gc.disable()  # records hold no cycles, and looking for some takes a seventh of the time
    log, target, start, end = (int(argument) for argument in sys.argv[1:])
    table, reached = parse_range(log, start, end)
    answer(target, table, start, reached)
    return 0


if __name__ == "__main__":
    sys.exit(main())
