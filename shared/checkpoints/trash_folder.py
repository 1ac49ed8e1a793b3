"""How a trash lies on the disk: numbered batches, each with a journal and the folders thrown away.

A batch that is being deleted for good is renamed first, so that nobody restores half of it.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

TRASH = ".trash"
JOURNAL = "journal.json"
MOVING, DONE, RESTORING = "moving", "done", "restoring"
_NUMBER = re.compile(r"\d{6,}")
_EMPTYING = ".emptying-"


def entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if there is none.

    Raises OSError for one that cannot be read: it must not pass for empty.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def batches(trash: Path) -> list[Path]:
    """Oldest first, by number because clocks can jump."""
    found = [path for path in entries(trash) if _NUMBER.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name))


def half_deleted(trash: Path) -> list[Path]:
    """The remains of an emptying that was interrupted."""
    return [path for path in entries(trash) if path.name.startswith(_EMPTYING)]


def next_batch(trash: Path) -> Path:
    """Where the next batch goes. No number comes twice, not even that of a half-deleted batch."""
    names = [path.name.removeprefix(_EMPTYING) for path in entries(trash)]
    numbers = [int(name) for name in names if _NUMBER.fullmatch(name)]
    return trash / f"{max(numbers, default=0) + 1:06d}"


def members(batch: Path) -> list[Path]:
    """The folders in a batch."""
    return [path for path in entries(batch) if path.is_dir() and not path.is_symlink()]


def doom(batch: Path) -> None:
    """Rename a batch, after which it is only to be deleted."""
    batch.rename(batch.with_name(f"{_EMPTYING}{batch.name}"))


def remove_empty(batch: Path) -> None:
    """Remove a batch without members, its journal last but one."""
    (batch / JOURNAL).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a foreign file in it is not ours to delete
        batch.rmdir()
