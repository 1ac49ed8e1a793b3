"""The files in a folder and below, with their sizes and times: one look at each, and no more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

_MOST_DEPTH = 8
#: Changes whenever a file is written or replaced, or a folder gets another entry. None: it is gone.
Seen = tuple[int, int, int] | None


class FileSeen(NamedTuple):
    """A file, by its path below the folder. There may be thousands at each look."""

    name: str
    path: str
    written_at: float
    seen: Seen


def seen_at(path: Path) -> Seen:
    """How a file or folder is now."""
    try:
        return _seen(path.stat())
    except OSError:
        return None


def _seen(stat: os.stat_result) -> Seen:
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def files_below(folder: Path, most: int) -> list[FileSeen]:
    """At most `most` files, in order of names; none where there is no such folder. Links to files
    are files, links to folders are not followed.
    """
    return sorted(islice(_walked(str(folder), "", _MOST_DEPTH), most))


def _walked(folder: str, prefix: str, depth: int) -> Iterator[FileSeen]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except OSError:
        return
    for entry in listed:
        try:
            if entry.is_dir(follow_symlinks=False):
                if depth:
                    yield from _walked(entry.path, f"{prefix}{entry.name}/", depth - 1)
            elif entry.is_file():
                stat = entry.stat()
                yield FileSeen(prefix + entry.name, entry.path, stat.st_mtime, _seen(stat))
        except OSError:
            continue
