"""JSON Lines with a step under any usual name, in a file that is not called `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shared.files import open_file
from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found
from shared.foreign.records import looked_through, share_of
from shared.json_text import is_number
from shared.run.foreign import OURS, canonical, read_step
from shared.run.metrics_log import MetricsReader, MetricsTable
from shared.run.newest_record import newest_records
from shared.run.record_lines import parse_lines

_ENDINGS = (".jsonl", ".ndjson")
_HEAD = 64 << 10
_SLICE = 512 << 10


class JsonLines:
    """Each file is a run."""

    name = "JSON Lines"

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`. A file whose records have no step is somebody's data, not a log."""
        names = [name for name in folder.files if name.endswith(_ENDINGS)]
        runs, watched = looked_through((folder.path / name for name in names), is_log)
        return Claim(tuple(Found(path, self.name) for path in runs), watched=watched)

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        return [Found(path, self.name)] if is_log(path) else []

    def open(self, found: Found) -> LineReader:
        """See `Format.open`."""
        return LineReader(found.path)

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        return found.path.stat().st_mtime


class LineReader:
    """Follows one file; see `Reader`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader = MetricsReader(path)
        self.facts = ForeignFacts()

    @property
    def table(self) -> MetricsTable:
        """See `Reader.table`."""
        return self._reader.table

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return share_of(self._reader.offset, [self._path])

    def poll(self) -> bool:
        """See `Reader.poll`."""
        more = self._reader.poll(_SLICE)
        self.facts.problem = self._reader.form.problem
        return more

    def close(self) -> None:
        """See `Reader.close`."""


def is_log(path: Path) -> bool | None:
    """Whether the first records of a file have a step and another number; None where it has
    too little in it to tell.
    """
    with open_file(path) as file:
        head = file.read(_HEAD)
    records, _ = parse_lines(head[: head.rfind(b"\n") + 1] or head)
    for record in records[:20]:
        flat, key = canonical(record)
        if key is None or key.tier != OURS or read_step(flat["step"])[0] is None:
            continue
        if any(is_number(value) for name, value in flat.items() if name not in ("step", "time")):
            return True
    if not records and newest_records(path):
        return True
    return None if len(records) <= 1 and len(head) < _HEAD else False


def make_format() -> Format:
    """The format."""
    return JsonLines()
