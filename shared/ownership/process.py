"""The identity of a process: host, pid, boot and start time, so that a reused pid is detected."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import psutil

STOPPED = psutil.STATUS_STOPPED  # by SIGSTOP or Ctrl-Z
_WORDS = {"T": STOPPED, "Z": None, "X": None, "x": None}


@lru_cache(maxsize=1)
def boot_id() -> str:
    """An id that changes with every boot of this host; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@lru_cache(maxsize=1)
def host_name() -> str:
    """This host's name."""
    return socket.gethostname()


@dataclass(frozen=True)
class ProcessIdentity:
    """One process on one boot of one host. `started` is its start in Unix seconds.

    `since_boot` is the same in seconds after the boot, which setting the clock does not change.
    None if the system or the record does not have it.
    """

    host: str
    pid: int
    boot: str
    started: float
    since_boot: float | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read a record. Raises KeyError, TypeError, ValueError or OverflowError for others."""
        since = value.get("since_boot")
        return cls(
            str(value["host"]),
            int(value["pid"]),
            str(value["boot"]),
            float(value["started"]),
            float(since) if isinstance(since, (int, float)) else None,
        )

    def is_here(self) -> bool:
        """Whether it ran on this host, so that we can check it."""
        return self.host == host_name()

    def is_alive(self) -> bool:
        """Whether this process still runs. Only meaningful when `is_here()`."""
        return self.condition() is not None

    def condition(self) -> str | None:
        """The system's state of the process (`STOPPED`, …); None when it is gone.

        Only meaningful when `is_here()`.
        """
        if self.boot != boot_id() or self.pid <= 0:
            return None
        condition, since_boot = _look_at(self.pid)
        if condition is None or self.started == 0.0:
            return condition
        started = _start_time(self.pid) if None in (self.since_boot, since_boot) else 0.0
        found = ProcessIdentity(self.host, self.pid, self.boot, started, since_boot)
        return condition if self.is_same(found) else None

    def is_same(self, other: ProcessIdentity) -> bool:
        """Whether `other` is the same process, even if the clock was set in between."""
        if (self.host, self.pid, self.boot) != (other.host, other.pid, other.boot):
            return False
        if self.since_boot is not None and other.since_boot is not None:
            return abs(self.since_boot - other.since_boot) < 0.05
        return abs(self.started - other.started) < 2.0


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    return identify(os.getpid())


def identify(pid: int) -> ProcessIdentity:
    """The identity of a living process of this host."""
    return ProcessIdentity(host_name(), pid, boot_id(), _start_time(pid), _look_at(pid)[1])


def _look_at(pid: int) -> tuple[str | None, float | None]:
    """The state of a process (None: gone or a zombie), and its start in seconds after boot."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        fields = stat.rpartition(")")[2].split()
        return _WORDS.get(fields[0], "alive"), int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        if Path("/proc/self/stat").exists():
            return None, None
    try:
        condition = psutil.Process(pid).status()
        return None if condition == psutil.STATUS_ZOMBIE else condition, None
    except psutil.Error:
        return None, None


def _start_time(pid: int) -> float:
    """The start of a process in Unix seconds by the current clock; 0.0 if it is gone."""
    try:
        started: float = psutil.Process(pid).create_time()
        return started
    except psutil.Error:
        return 0.0
