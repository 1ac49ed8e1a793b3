"""trackio's inbox: a folder of each writer, with fragments of JSON Lines that never change."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from shared.files import open_file
from shared.foreign.files_below import Seen, seen_at
from shared.json_text import Json
from shared.run.record_lines import parse_lines

NAME = "inbox"
_ENDING = ".jsonl"
_MOST_WRITERS, _MOST_FRAGMENTS = 1_000, 20_000
_FRAGMENT = 64 << 20  # bytes of one that is read
_SETTLED = 2.0  # seconds after which a folder's time tells of every further fragment


class Inbox:
    """Gives each fragment once; a folder of a writer is listed again when its time has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, Seen] = {}
        self._known: dict[Path, set[str]] = {}  # the fragments of each writer
        self._waiting: list[Path] = []

    def __contains__(self, path: Path) -> bool:
        """Whether a fragment was there at the last look."""
        return path.name in self._known.get(path.parent, ())

    def look(self) -> None:
        """Look for new fragments, and forget those that were imported into a database."""
        writers = _writers(self._folder)
        self._known = {writer: self._known.get(writer, set()) for writer in writers}
        self._seen = {writer: self._seen.get(writer) for writer in writers}
        for writer in writers:
            seen = seen_at(writer)
            if seen is None or seen == self._seen[writer]:
                continue
            known = self._known.pop(writer)
            room = _MOST_FRAGMENTS - sum(map(len, self._known.values()))
            names = _fragments(writer)[: max(0, room)]
            self._waiting += [writer / name for name in names if name not in known]
            self._known[writer] = set(names)
            settled = time.time() - seen[2] / 1e9 > _SETTLED
            self._seen[writer] = seen if settled else None

    def take(self, most: int) -> Iterator[tuple[Path, list[Json]]]:
        """The records of at most `most` fragments that were not given before, the oldest first.

        One that cannot be read is given without records, and once more after the next look.
        """
        some, self._waiting = self._waiting[:most], self._waiting[most:]
        for path in some:
            try:
                records = _records(path)
            except FileNotFoundError:  # imported meanwhile
                continue
            except OSError:
                self._known[path.parent].discard(path.name)
                self._seen[path.parent] = None
                records = []
            yield path, records

    @property
    def more(self) -> bool:
        """Whether fragments wait to be taken."""
        return bool(self._waiting)


def written_at(folder: Path) -> float:
    """When the last fragment came, or went. Raises OSError where there is no inbox."""
    times = [folder.stat().st_mtime]
    for writer in _writers(folder):
        seen = seen_at(writer)
        if seen is not None:
            times.append(seen[2] / 1e9)
    return max(times)


def watched(folder: Path) -> tuple[tuple[Path, Seen], ...]:
    """What changes when a fragment comes."""
    return tuple((path, seen_at(path)) for path in (folder, *_writers(folder)))


def run_of(record: Mapping[str, object]) -> tuple[str, str] | None:
    """The id and the name of the run that a record is of."""
    name = record.get("run")
    return (str(record.get("run_id") or name), name) if isinstance(name, str) else None


def _writers(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [Path(path) for path in sorted(found)[:_MOST_WRITERS]]


def _fragments(writer: Path) -> list[str]:
    try:
        names = sorted(name for name in os.listdir(writer) if name.endswith(_ENDING))  # noqa: PTH208
    except OSError:
        return []
    return names[:_MOST_FRAGMENTS]


def _records(fragment: Path) -> list[Json]:
    with open_file(fragment) as file:
        return parse_lines(file.read(_FRAGMENT))[0]
