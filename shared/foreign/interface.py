"""What every format of another tool offers: its runs in a folder, and a reader that follows one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shared.foreign.files_below import Seen
from shared.run.metrics_log import MetricsTable


@dataclass(frozen=True)
class Folder:
    """A folder's entries, without hidden ones: the names of its files and of its folders."""

    path: Path
    files: frozenset[str]
    folders: frozenset[str]


@dataclass(frozen=True)
class Found:
    """A run of another tool.

    `path` is the file or the folder that holds it, and `key` tells it from others there. `name` is
    what the tool calls it, or else empty. `format` is the name of the format that opens it.
    """

    path: Path
    format: str
    key: str = ""
    name: str = ""


@dataclass(frozen=True)
class Claim:
    """The runs in a folder, and its entries that are theirs: nobody else looks into those.

    `watched` are files and folders in which others may come while the time of this folder stays
    the same, as they were before they were looked into. `busy`: one could not be looked into now,
    as a locked database; the runs of the look before stay.
    """

    runs: tuple[Found, ...] = ()
    names: frozenset[str] = frozenset()
    watched: tuple[tuple[Path, Seen], ...] = ()
    busy: bool = False


@dataclass
class ForeignFacts:
    """What a run's files tell beside its metrics. Texts are as they lie: they may hold anything.

    `status` is empty where they do not tell; then the time of the last write does. `problem` is a
    sentence on what could not be read. `notes` are sentences on what is not shown.
    """

    name: str = ""
    config: Mapping[str, str] = field(default_factory=dict)
    status: str = ""
    host: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    #: Written with checkpoints, say, and not step by step.
    live: bool = True
    tags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


class Reader(Protocol):
    """Follows one run. Files may be torn, damaged, replaced or gone at any time: no error is raised
    for it, `facts.problem` tells."""

    facts: ForeignFacts

    @property
    def table(self) -> MetricsTable:
        """What was read so far: another, empty one when the files were replaced."""

    @property
    def share_read(self) -> float:
        """The share of what there is that was read, 0 to 1."""

    def poll(self) -> bool:
        """Read on for some milliseconds; True while there is more to read at once."""

    def close(self) -> None:
        """Let go of open files."""


class Format(Protocol):
    """One tool's way to log."""

    name: str

    def find(self, folder: Folder) -> Claim:
        """The runs that lie in a folder. Raises OSError where it cannot be read."""

    def recognises(self, path: Path) -> Iterable[Found]:
        """The runs in one file, which a person has named. Raises OSError."""

    def open(self, found: Found) -> Reader:
        """A reader of a run that `find` or `recognises` gave."""

    def written_at(self, found: Found) -> float:
        """When it was last written, in Unix seconds. Raises OSError when it is gone."""
