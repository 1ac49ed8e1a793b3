"""Newer checkpoints that a resume from an older one leaves behind."""

from __future__ import annotations

from pathlib import Path

from shared.checkpoints.catalogue import BEST, FINAL, LATEST, link_target, list_checkpoints
from shared.run.directory import RunDirectory


def set_aside_newer(run: RunDirectory, begun_from: Path, step: int, attempt: int) -> list[str]:
    """Rename checkpoints of later steps, so that the next resume does not start from them.

    They are kept as `superseded_ATTEMPT_NAME`, which the catalogue does not list; links to them
    are removed. Returns the old names.
    """
    moved: list[str] = []
    for info in list_checkpoints(run.checkpoints):
        if info.path.resolve() == begun_from.resolve():
            continue
        if info.step > step or (info.name == FINAL and info.step >= step):
            info.path.rename(info.path.with_name(f"superseded_{attempt}_{info.name}"))
            moved.append(info.name)
    for link in (LATEST, BEST):
        if link_target(run.checkpoints, link) in moved:
            (run.checkpoints / link).unlink()
    return moved
