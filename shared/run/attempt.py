"""The attempt of a run's last records."""

from __future__ import annotations

import contextlib
import os

from shared.files import open_file
from shared.run.directory import RunDirectory
from shared.run.record_lines import parse_lines

MAX_ATTEMPT = 1 << 31
_TAIL = 1 << 16  # bytes


def newest_attempt(run: RunDirectory) -> int:
    """The attempt of the last records: if the state is lost, new records must still win."""
    newest = 0
    for path in (run.metrics_path, run.events_path):
        with contextlib.suppress(OSError), open_file(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            attempts = (r.get("attempt") for r in parse_lines(file.read())[0])
            newest = max([newest, *(a for a in attempts if type(a) is int and a < MAX_ATTEMPT)])
    return newest
