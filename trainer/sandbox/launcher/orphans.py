"""Ending descendants that left their process group, where no pid namespace does it."""

from __future__ import annotations

import contextlib
import os
import signal


def end_all(spared: set[int]) -> None:
    """Kill and reap all descendants of this process but the children in `spared` and theirs.

    The process must adopt orphans: then whoever loses its parent becomes its child.
    """
    while True:
        found = [child for child in children(os.getpid()) if child not in spared]
        if not found:
            return
        family = list(found)
        for pid in family:  # grows while it is read
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            family += children(pid)
        for pid in found:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def children(parent: int) -> list[int]:
    """The ids of a process's children."""
    try:
        found: list[int] = []
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children") as file:
                found += map(int, file.read().split())
        return found
    except OSError:  # ended, or a kernel without that file
        return [pid for pid in _all() if _parent(pid) == parent]


def _all() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _parent(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
