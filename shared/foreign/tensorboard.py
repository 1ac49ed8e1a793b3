"""TensorBoard's event files: every scalar of them, with their checksums verified.

Each record is an `Event` message. Several writers may log into one folder; the folder is the run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from shared.foreign.event_records import Records
from shared.foreign.event_scalars import Scalars
from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found, Reader
from shared.foreign.records import share_of
from shared.run.metrics_log import MetricsTable
from shared.run.tail import ByteTail
from shared.text import one_line, plural

_NAME = re.compile(r"tfevents")
_STAMP = re.compile(r"tfevents\.(\d{1,20})")
_SLICE = 256 << 10  # bytes read at a time, some milliseconds


class TensorBoard:
    """Each folder with event files is a run, sub-folders are runs of their own."""

    name = "TensorBoard"

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`."""
        names = frozenset(name for name in folder.files if _NAME.search(name))
        if not names:
            return Claim()
        return Claim((Found(folder.path, self.name, name=folder.path.name),), names)

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        return [Found(path, self.name)] if _NAME.search(path.name) else []

    def open(self, found: Found) -> Reader:
        """See `Format.open`."""
        return EventReader(found.path)

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        times = [_time_of(path) for path in event_files(found.path)]
        if not any(times):
            raise FileNotFoundError(2, "its event files are gone", str(found.path))
        return max(times)


def _time_of(path: Path) -> float:
    """0 for one that is gone, or a link to nowhere: the others are read all the same."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def event_files(path: Path) -> list[Path]:
    """The event files of a folder, by the time in their names, or the one file. Raises OSError."""
    if not path.is_dir():
        path.stat()
        return [path]
    names = [name for name in os.listdir(path) if _NAME.search(name)]  # noqa: PTH208
    if not names:
        raise FileNotFoundError(2, "its event files are gone", str(path))
    return [path / name for name in sorted(names, key=lambda name: (_stamp(name), name))]


def _stamp(name: str) -> int:
    found = _STAMP.search(name)
    return int(found[1]) if found else 0


class EventReader:
    """Follows the event files of a folder, one after the other and then all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.facts = ForeignFacts()
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._files: dict[Path, _EventFile] = {}
        self._scalars = Scalars()

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return share_of(sum(file.offset for file in self._files.values()), self._files)

    def poll(self) -> bool:
        """See `Reader.poll`."""
        try:
            paths = event_files(self._path)
        except OSError as error:
            self.facts.problem = f"it cannot be read: {error.strerror}"
            return False
        for path in paths:
            self._files.setdefault(path, _EventFile(path))
        for file in [self._files[path] for path in paths]:
            more = self._read(file)
            if more is None:
                self._start_over()
                return True
            if more:
                return True
        return False

    def _read(self, file: _EventFile) -> bool | None:
        """Read on in one file; None when it is another file now."""
        events = list(file.events())
        if file.restarted:
            return None
        for event in events:
            self._scalars.take(event)
        if events:
            self.table = self._scalars.flushed(self.table)
        self._tell()
        return file.more

    def _tell(self) -> None:
        problems = [file.problem for file in self._files.values() if file.problem]
        self.facts.problem = "; ".join(problems[:3])
        scalars = self._scalars
        self.facts.config = scalars.config
        self.facts.status, self.facts.ended_at = scalars.status, scalars.ended_at
        self.facts.started_at = scalars.started_at
        self.facts.notes = scalars.notes

    def close(self) -> None:
        """See `Reader.close`."""


class _EventFile:
    """The events of one file, as far as it is whole."""

    def __init__(self, path: Path) -> None:
        from shared.foreign.event_proto import message

        self._event = message("Event")
        self._path = path
        self._bytes = ByteTail(path)
        self._records = Records()
        self._unread = 0
        self.more = False
        self.restarted = False

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._bytes.offset

    @property
    def problem(self) -> str:
        """What could not be read, in a sentence; empty if nothing."""
        damaged = self._records.damaged + self._unread
        if not damaged:
            return ""
        return f"{one_line(self._path.name, 80)}: {plural(damaged, 'damaged record')} left out"

    def events(self) -> Iterator[Any]:
        """The next events of a slice of the file."""
        piece = self._bytes.read(_SLICE)
        self.restarted, self.more = piece.restarted, piece.more
        if piece.restarted or not piece.data:
            return
        for data in self._records.feed(piece.data):
            try:
                yield self._event.FromString(data)
            except Exception:  # protobuf's DecodeError, which older versions have elsewhere
                self._unread += 1


def make_format() -> Format:
    """The format."""
    return TensorBoard()
