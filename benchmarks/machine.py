"""The machine a figure was measured on, in a line."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def processor() -> str:
    """The CPU's name and, on Linux, the instructions that matter to a small model."""
    name, extras = platform.processor() or platform.machine(), ""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return name
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields.get("flags", "").split()
    extras = ", ".join(flag for flag in _FLAGS if flag in flags)
    return fields.get("model name", name) + (f" ({extras})" if extras else "")


def memory() -> str:
    """Physical memory."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return "unknown memory"
    return f"{size / 2**30:.0f} GiB"


def machine() -> str:
    """CPU, cores, memory, Python, torch, date."""
    try:
        torch = f"torch {version('torch')}"
    except PackageNotFoundError:
        torch = "no torch"
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return (
        f"{processor()}, {os.cpu_count()} cores, {memory()}, Python {platform.python_version()}, "
        f"{torch}, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}, load {load:.1f} at the start"
    )
