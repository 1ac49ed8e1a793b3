"""Free main memory."""

from __future__ import annotations

from pathlib import Path

import psutil


def available_memory() -> int:
    """Bytes this process can still allocate: free on the machine, or left in its control group."""
    available = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no group, or one without a limit ("max")
        return available
    return min(available, max(0, limit - used))
