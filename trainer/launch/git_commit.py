"""The git commit that a run or an evaluation was started from."""

from __future__ import annotations

import subprocess


def git_commit() -> str | None:
    """The commit of the working directory, or None outside a git repository."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
