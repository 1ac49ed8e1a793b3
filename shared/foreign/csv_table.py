"""CSV with a header: Lightning's `metrics.csv`, and any table with a column of steps.

Lightning writes its file anew when a key appears, with a longer header; a file that changes before
its end is read again from the start.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from shared.files import open_file, read_bytes
from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found
from shared.foreign.records import looked_through, share_of
from shared.json_text import Json
from shared.run.config import flat_config
from shared.run.foreign import step_key, text_number
from shared.run.metrics_log import MetricsTable
from shared.run.tail import ByteTail, LineSplitter
from shared.run.text_form import TextForm

_ENDINGS = (".csv", ".tsv")
_HEAD = 64 << 10
_SLICE = 256 << 10
_MOST_COLUMNS = 10_000
_LIGHTNING, _HPARAMS = "metrics.csv", "hparams.yaml"


class CsvTable:
    """Each file is a run; Lightning's is named after its folder."""

    name = "CSV"

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`. A table without a column of steps is somebody's data, not a log."""
        names = [name for name in folder.files if name.endswith(_ENDINGS)]
        runs, watched = looked_through((folder.path / name for name in names), is_log)
        found = tuple(_found(path) for path in runs)
        lightning = {_LIGHTNING, _HPARAMS} & folder.files
        return Claim(found, frozenset(lightning), watched)

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        return [_found(path)] if is_log(path) else []

    def open(self, found: Found) -> TableReader:
        """See `Format.open`."""
        return TableReader(_file_of(found))

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        return _file_of(found).stat().st_mtime


def _found(path: Path) -> Found:
    if path.name == _LIGHTNING:
        return Found(path.parent, CsvTable.name, name="/".join(path.parent.parts[-2:]))
    return Found(path, CsvTable.name)


def _file_of(found: Found) -> Path:
    """A file, or Lightning's in a folder such as `lightning_logs/version_0`."""
    return found.path if found.path.suffix in _ENDINGS else found.path / _LIGHTNING


class TableReader:
    """Follows one file; see `Reader`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = ByteTail(path)
        self.facts = ForeignFacts()
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._form = TextForm()
        self._lines = LineSplitter()
        self._header: Header | None = None
        if self._path.name == _LIGHTNING:
            self.facts.config = flat_config(_text_of(self._path.with_name(_HPARAMS)))

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return share_of(self._bytes.offset, [self._path])

    def poll(self) -> bool:
        """See `Reader.poll`."""
        piece = self._bytes.read(_SLICE)
        if piece.restarted:
            self._start_over()
        if not piece.data and not self._form.more:
            return False
        lines = self._lines.feed(self._form.feed(piece.data))
        if lines:
            self.table.add_records(self._records(lines.decode("utf-8", "replace").splitlines()))
        self.facts.problem = self._form.problem
        return piece.more or self._form.more

    def _records(self, lines: Sequence[str]) -> list[Json]:
        if self._header is None:
            self._header, lines = header_of(lines)
        return self._header.records(lines) if self._header else []

    def close(self) -> None:
        """See `Reader.close`."""


class Header:
    """The names of the columns, and how cells are separated."""

    def __init__(self, names: Sequence[str], separator: str) -> None:
        self.names, self._separator = tuple(names[:_MOST_COLUMNS]), separator

    def records(self, lines: Sequence[str]) -> list[Json]:
        """A record of each line, without its empty cells; no header that comes again."""
        found: list[Json] = []
        try:
            for row in csv.reader(lines, delimiter=self._separator):
                if tuple(row[:_MOST_COLUMNS]) == self.names:
                    continue
                record = {n: cell for n, cell in zip(self.names, row, strict=False) if cell.strip()}
                if record:
                    found.append(record)
        except csv.Error:  # a NUL or a cell without an end
            pass
        return found


def header_of(lines: Sequence[str]) -> tuple[Header | None, Sequence[str]]:
    """The header in the first line that is one, and the lines after it."""
    for number, line in enumerate(lines):
        text = line.lstrip("\ufeff")
        if not text.strip() or text.startswith("#"):
            continue
        separator = max(",;\t", key=text.count)
        try:
            names = [name.strip() for name in next(csv.reader([text], delimiter=separator))]
        except (csv.Error, StopIteration):
            return None, []
        return Header(names, separator), lines[number + 1 :]
    return None, []


def is_log(path: Path) -> bool | None:
    """Whether a table has a column of steps and another number in one of its first lines; None
    where it has no rows yet.
    """
    with open_file(path) as file:
        text = TextForm().feed(file.read(_HEAD)).decode("utf-8", "replace")
    lines = text.splitlines()
    if len(text) >= _HEAD // 2 and len(lines) > 1:
        lines = lines[:-1]  # it may be cut
    header, rest = header_of(lines)
    if header is None:
        return None if not lines else False
    if len(header.names) < 2:
        return False
    records = header.records(rest[:50])
    for record in records:
        key = step_key(record)
        if key is not None and any(
            text_number(str(value)) is not None
            for name, value in record.items()
            if name != key.name
        ):
            return True
    return False if records else None


def _text_of(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8", "replace")
    except OSError:
        return ""


def make_format() -> Format:
    """The format."""
    return CsvTable()
