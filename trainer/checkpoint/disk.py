"""What checkpoints are written to: its free space, and a place to put faults in for tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def free_bytes(folder: Path) -> int:
    """Bytes that we may still write where `folder` is. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _nothing(_path: Path) -> None:
    """No one watches."""


@dataclass(frozen=True)
class Disk:
    """The real disk, unless a test stands between.

    `written` is called in the saving thread after each large file and after the manifest of a
    checkpoint have been written; what it raises counts as the disk's error.
    """

    free_bytes: Callable[[Path], int] = free_bytes
    written: Callable[[Path], None] = _nothing
