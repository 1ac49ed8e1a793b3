"""The Python that runs Python programs in the sandbox."""

from __future__ import annotations

import sys
from pathlib import Path


def python_command() -> tuple[str, ...]:
    """The start of a command: this interpreter, isolated and without installed packages."""
    executable: str = getattr(sys, "_base_executable", sys.executable) or sys.executable
    return str(Path(executable).resolve()), "-I", "-S", "-B"


def python_readable() -> tuple[Path, ...]:
    """What this interpreter reads to start."""
    found = (sys.base_prefix, sys.base_exec_prefix, Path(python_command()[0]).parent.parent)
    return tuple(dict.fromkeys(Path(path).resolve() for path in found))
