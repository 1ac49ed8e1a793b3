"""Whose checkpoints a folder outside the run directory holds (`--checkpoint-dir`)."""

from __future__ import annotations

from pathlib import Path

from shared.run.directory import RunDirectory

OWNER = ".owner"  # in that folder: the path of the run


def owner_of(folder: Path) -> RunDirectory | None:
    """The run that `folder` names as its owner and that links back to it; None without one."""
    try:
        run = RunDirectory(Path((folder / OWNER).read_text(errors="replace").strip()))
        if run.checkpoints.resolve() == folder.resolve():
            return run
    except (OSError, ValueError, RuntimeError):  # no note, or one that is not a path
        pass
    return None
