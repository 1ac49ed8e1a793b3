"""The heartbeat: a small file that is overwritten in place every second."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.files import read_json
from shared.json_text import encode_json
from shared.ownership.process import ProcessIdentity, boot_id, this_process

INTERVAL = 1.0  # seconds between beats
SILENT_AFTER = 5.0  # seconds without a beat after which a living process counts as stalled
DEAD_AFTER = 10.0  # seconds without a beat after which a process elsewhere counts as gone
_SIZE = 512


@dataclass(frozen=True)
class Beat:
    """One beat. `time` and `step_time` are Unix seconds, the others seconds.

    `idle_seconds` is the time since the last progress by the writer's monotonic clock; None from a
    writer that does not beat regularly. `monotonic` is that clock at the beat. `step_seconds` is
    the usual time of a step. `alarm`, and `end` with the status it ended with, come from a writer
    that cannot write its state, as on a full disk.
    """

    process: ProcessIdentity
    time: float
    step: int
    step_time: float
    step_seconds: float | None
    idle_seconds: float | None = None
    monotonic: float | None = None
    alarm: str = ""
    end: str = ""

    def age(self, now: float) -> float:
        """Seconds since this beat; `now` is the reader's wall clock.

        Processes of the same boot share the monotonic clock. Between machines only the wall clocks
        can be compared: the age may then be wrong, even negative.
        """
        if self.monotonic is not None and self.process.boot and self.process.boot == boot_id():
            since = time.monotonic() - self.monotonic
            if since >= 0:
                return since
        return now - self.time


class BeatWatch:
    """A reader's own measurement: how long it has seen the same beat.

    Once it has seen the beat change, it no longer matters whether the clocks agree.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = ""
        self._since = 0.0
        self.moved = False

    def age(self, beat: Beat, now: float) -> float:
        """The best estimate of the seconds since `beat`; never negative."""
        tick, seen = self._clock(), repr(beat)
        if seen != self._seen:
            self.moved = bool(self._seen)
            self._seen, self._since = seen, tick
        unchanged = tick - self._since
        if self.moved:
            return unchanged
        apart = abs(beat.age(now))  # a beat from the future is as suspicious as an old one
        return max(unchanged, apart) if math.isfinite(apart) else math.inf


class HeartbeatFile:
    """Writes beats in place, padded to a fixed size.

    This needs no new disk block, so a run on a full disk does not look dead.
    """

    def __init__(self, path: Path, **facts: Any) -> None:
        """`facts` are repeated in every beat."""
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._facts = {**dataclasses.asdict(this_process()), **facts}
        if os.fstat(self._fd).st_size > _SIZE:  # a longer remainder would corrupt every beat
            os.ftruncate(self._fd, 0)

    def beat(
        self,
        step: int = 0,
        idle_seconds: float = 0.0,
        step_seconds: float | None = None,
        **facts: Any,
    ) -> OSError | None:
        """Record that the process is alive, and the seconds since the last progress.

        Returns the error if the write failed; the next beat may succeed.
        """
        now = time.time()
        record = {
            **self._facts,
            **facts,
            "time": now,
            "monotonic": time.monotonic(),
            "step": step,
            "step_time": now - idle_seconds,
            "idle_seconds": round(idle_seconds, 3),
            "step_seconds": step_seconds,
        }
        try:
            line = encode_json(record)
            if len(line) >= _SIZE:  # a longer remainder would corrupt every later beat
                line = encode_json({k: v for k, v in record.items() if k not in facts})
            os.pwrite(self._fd, line.ljust(_SIZE - 1) + b"\n", 0)
            os.utime(self._fd)
        except OSError as error:
            return error
        return None

    def close(self) -> None:
        """Close the file; the last beat stays in it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_beat(path: Path) -> Beat | None:
    """The last beat, or None."""
    value = read_json(path)
    if value is None:
        return None
    try:
        return Beat(
            ProcessIdentity.from_json(value),
            float(value["time"]),
            int(value["step"]),
            float(value["step_time"]),
            _seconds(value.get("step_seconds")),
            _seconds(value.get("idle_seconds")),
            _seconds(value.get("monotonic")),
            _text(value.get("alarm")),
            _text(value.get("end")),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
