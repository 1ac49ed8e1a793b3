"""The disk that checkpoints are written to: its free space, and hooks for tests of faults."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Free bytes on the disk of `folder`. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _nothing(_path: Path) -> None:
    """The default hook does nothing."""


@dataclass(frozen=True)
class Disk:
    """The real disk, unless a test replaces a function.

    `written` is called in the saving thread after each large file and after the manifest of a
    checkpoint have been written; an exception it raises counts as an error of the disk.
    """

    free_bytes: Callable[[Path], int] = free_bytes
    written: Callable[[Path], None] = _nothing
