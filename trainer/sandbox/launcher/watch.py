"""What all processes of a work use together: the kernel's limits hold for each of them only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from trainer.sandbox.launcher import orphans

SECONDS = 0.1  # between two looks
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAX_PROCESSES = 512  # looked at; more are too many anyway


def excess(first: int, limits: Mapping[str, Any]) -> str | None:
    """What a work with this first process uses too much of."""
    family = orphans.children(first)
    tasks = resident = 0
    for pid in family:  # grows while it is read
        if len(family) > _MAX_PROCESSES:
            return "processes"
        family += orphans.children(pid)
        tasks += _tasks(pid)
        resident += _resident_bytes(pid)
    if resident > limits["memory_bytes"]:
        return "memory"
    return "processes" if tasks > limits["processes"] else None


def _tasks(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:  # ended meanwhile
        return 0


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0
