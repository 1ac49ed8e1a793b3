"""The sign of life: a small file overwritten in place every second."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from shared.files import read_json
from shared.process import ProcessIdentity, this_process
from shared.records import encode_json

INTERVAL = 1.0  # seconds between beats
DEAD_AFTER = 10.0  # seconds without a beat after which a process elsewhere counts as gone
_SIZE = 512


@dataclass(frozen=True)
class Beat:
    """One sign of life. Times are Unix seconds; `step_seconds` is the usual time of a step."""

    process: ProcessIdentity
    time: float
    step: int
    step_time: float
    step_seconds: float | None


class HeartbeatFile:
    """Writes beats in place, padded to a fixed size.

    No new block is needed, so a full disk does not make a living run look dead.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._process = this_process()
        if os.fstat(self._fd).st_size > _SIZE:  # what is not overwritten would spoil every beat
            os.ftruncate(self._fd, 0)

    def beat(self, step: int, step_time: float, step_seconds: float | None) -> None:
        """Say that the process lives, and when it last finished a step."""
        record = {
            "host": self._process.host,
            "pid": self._process.pid,
            "boot": self._process.boot,
            "started": self._process.started,
            "time": time.time(),
            "step": step,
            "step_time": step_time,
            "step_seconds": step_seconds,
        }
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, encode_json(record).ljust(_SIZE - 1) + b"\n", 0)
            os.utime(self._fd)

    def close(self) -> None:
        """Stop beating; the last beat stays in the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_beat(path: Path) -> Beat | None:
    """The last beat, or None."""
    value = read_json(path)
    if value is None:
        return None
    try:
        process = ProcessIdentity(
            str(value["host"]), int(value["pid"]), str(value["boot"]), float(value["started"])
        )
        seconds = value.get("step_seconds")
        return Beat(
            process,
            float(value["time"]),
            int(value["step"]),
            float(value["step_time"]),
            float(seconds) if isinstance(seconds, (int, float)) else None,
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
