"""Disk space kept back for a run's last records, so that a full disk cannot take them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 1 << 20  # the last state, and about 3000 records that waited in memory


class Reserve:
    """A hidden file of `RESERVE_BYTES`; `release` makes room by removing it.

    Where it cannot be made (the disk is full already), there is none.
    """

    def __init__(self, folder: Path, size: int = RESERVE_BYTES) -> None:
        # Named like an unfinished replacement: what a kill leaves, the next owner removes.
        self._path = folder / f".reserve.tmp-{os.getpid()}-0"
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(fd, 0, size)
            finally:
                os.close(fd)
        except OSError:
            self.release()

    def release(self) -> None:
        """Remove the file. Later calls do nothing."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
