"""Finding the runs of other tools below a folder, again and again, at little cost."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.foreign.files_below import Seen, seen_at
from shared.foreign.interface import Claim, Folder, Format, Found
from shared.foreign.registry import formats
from shared.run.directory import RunDirectory, is_run
from shared.text import one_line

MOST_FOLDERS, MOST_DEPTH, MOST_ENTRIES = 2_000, 6, 20_000
#: Folders in which nobody logs, and which may be huge.
_PASSED = frozenset(
    {"node_modules", "__pycache__", "site-packages", "venv", "env", "wheels", "artifacts"}
)


@dataclass
class _Seen:
    """A folder as it was looked at: its time, and what was found."""

    changed_at: int
    claim: Claim
    folders: tuple[Path, ...]
    problems: tuple[str, ...] = ()

    def is_as_at(self, changed_at: int) -> bool:
        """Whether there is nothing new, the folder's time being this now."""
        if self.claim.busy or self.changed_at != changed_at:
            return False
        return all(seen_at(path) == seen for path, seen in self.claim.watched)


@dataclass
class Walk:
    """The runs of other tools in a folder and those below it.

    A folder is listed again where its time has changed. `problems` are sentences on folders that
    could not be read; `cut_short` says that there was too much to look at.
    """

    root: Path
    known: Sequence[Format] = field(default_factory=formats)
    problems: list[str] = field(default_factory=list)
    cut_short: bool = False
    _seen: dict[Path, _Seen] = field(default_factory=dict)

    @property
    def notice(self) -> str:
        """What the last look left out, in a sentence; empty if nothing."""
        if self.cut_short:
            return (
                f"Only {MOST_FOLDERS:,} folders in {one_line(self.root)} were searched for runs; "
                "watch a folder inside it."
            )
        if not self.problems:
            return ""
        more = len(self.problems) - 1
        return one_line(self.problems[0], 300) + (f" (and {more:,} more)." if more else ".")

    def find(self, *, fresh: bool = False, own: Collection[str] = ()) -> list[Found]:
        """Every run there is now. `fresh` lists all folders again. `own` are names in the folder
        that are known to be run directories: nobody looks into those.
        """
        self.problems, self.cut_short = [], False
        if fresh:
            self._seen = {}
        looked: dict[Path, _Seen] = {}
        found: list[Found] = []
        waiting: list[tuple[Path, int]] = [(self.root, 0)]
        while waiting:
            path, depth = waiting.pop()
            if len(looked) >= MOST_FOLDERS:
                self.cut_short = True
                break
            try:
                seen = self._look(path, root=depth == 0)
            except OSError as error:
                if depth and not isinstance(error, FileNotFoundError):
                    self.problems.append(f"{path} cannot be read: {error.strerror}")
                continue
            looked[path] = seen
            self.problems += seen.problems
            found += seen.claim.runs
            if depth < MOST_DEPTH:
                waiting += [
                    (inner, depth + 1) for inner in seen.folders if depth or inner.name not in own
                ]
        self._seen = looked
        return found

    def _look(self, path: Path, *, root: bool) -> _Seen:
        changed_at = path.stat().st_mtime_ns
        before = self._seen.get(path)
        if before is not None and before.is_as_at(changed_at):
            return before
        folder = _listed(path)
        if not root and is_run(RunDirectory(path)):
            return _Seen(changed_at, Claim(), ())
        runs: list[Found] = []
        names: set[str] = set()
        problems: list[str] = []
        watched: list[tuple[Path, Seen]] = []
        busy = False
        for one in self.known:
            rest = Folder(path, folder.files - names, folder.folders - names)
            try:
                claim = one.find(rest)
            except OSError:
                raise
            except Exception as error:  # a file may hold anything
                problems.append(f"{path} cannot be read as {one.name}: {error}")
                continue
            runs += claim.runs
            if claim.busy and before is not None:
                kept = [run for run in before.claim.runs if run.format == one.name]
                runs += [run for run in kept if run not in claim.runs]
            names |= claim.names
            busy |= claim.busy
            watched += claim.watched
        below = sorted(folder.folders - names - _PASSED)
        return _Seen(
            changed_at,
            Claim(tuple(runs), frozenset(names), tuple(watched), busy),
            tuple(path / n for n in below),
            tuple(problems),
        )


def _listed(path: Path) -> Folder:
    files: set[str] = set()
    folders: set[str] = set()
    with os.scandir(path) as entries:
        for entry in _first(entries, MOST_ENTRIES):
            if entry.name.startswith("."):
                continue
            try:
                (folders if entry.is_dir(follow_symlinks=False) else files).add(entry.name)
            except OSError:
                continue
    return Folder(path, frozenset(files), frozenset(folders))


def _first(entries: Iterator[os.DirEntry[str]], most: int) -> Iterator[os.DirEntry[str]]:
    for _, entry in zip(range(most), entries, strict=False):
        yield entry


def runs_of_file(path: Path) -> list[Found]:
    """The runs in one file, by the first format that knows it. Raises OSError."""
    for one in formats():
        found = list(one.recognises(path))
        if found:
            return found
    return []
