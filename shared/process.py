"""Who a process is: host, pid, boot and start time, enough to tell it from a later namesake."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Changes with every boot of this host; empty where the system does not tell."""
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
    """One process on one boot of one host. `started` is its start in Unix seconds."""

    host: str
    pid: int
    boot: str
    started: float

    def is_here(self) -> bool:
        """Whether it ran on this host, so that we can look for it."""
        return self.host == host_name()

    def is_alive(self) -> bool:
        """Whether that very process still runs here. Only meaningful when `is_here()`."""
        if self.boot != boot_id() or self.pid <= 0:
            return False
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 2.0 or self.started == 0.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def this_process() -> ProcessIdentity:
    """The identity of the calling process."""
    pid = os.getpid()
    return ProcessIdentity(host_name(), pid, boot_id(), psutil.Process(pid).create_time())
