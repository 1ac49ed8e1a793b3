"""How many processor cores this process may use. Loads no torch."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
PROC_SELF = Path("/proc/self/cgroup")


def usable_cores(cgroups: Path = CGROUPS, own: Path = PROC_SELF) -> int:
    """Cores that this process may run on: at most as many as the machine has, as its affinity
    allows, and as a container's quota of time is worth; 1 at least.
    """
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    quota = _quota(cgroups, own)
    most = min(physical, allowed)
    return max(1, most if quota is None else min(most, round(quota)))


def processor() -> str:
    """The name of the processor; empty if it is unknown."""
    try:
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""


def _quota(cgroups: Path, own: Path) -> float | None:
    """The cores that the smallest quota of this process's control groups is worth; None without
    one.
    """
    found = [_worth(folder) for folder in _groups(cgroups, own)]
    return min((x for x in found if x is not None), default=None)


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """The folders of this process's control groups, up to the root: version 2, and 1."""
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    folders = [cgroups, cgroups / "cpu"]
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            root = cgroups
        elif "cpu" in controllers.split(","):
            root = cgroups / "cpu"
        else:
            continue
        parts = [part for part in path.split("/") if part and part != ".."]
        folders += [root.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    return folders


def _worth(folder: Path) -> float | None:
    """The cores that the quota of one control group is worth."""
    both = _numbers(folder / "cpu.max")
    if len(both) != 2:
        both = _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
    if len(both) == 2 and both[0] > 0 and both[1] > 0:
        return both[0] / both[1]
    return None


def _numbers(path: Path) -> list[float]:
    """The numbers in a small file; none for words such as `max`, or without the file."""
    try:
        return [float(word) for word in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []
