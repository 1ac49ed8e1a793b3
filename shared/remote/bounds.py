"""Whether a run lies within the served folder, whatever links are in it."""

from __future__ import annotations

import os
from pathlib import Path

from shared.text import one_line

_DEPTH = 5  # below the run: checkpoints/.trash/000001/step_1/model.safetensors


def leads_out(root: Path, folder: Path) -> str:
    """A link in `folder`, or itself, that leads out of `root`; empty if there is none.

    Raises OSError where it cannot be told.
    """
    top = os.path.realpath(root)
    return _leads_out(top, os.fspath(folder), _DEPTH) if os.path.lexists(folder) else ""


def _leads_out(top: str, path: str, depth: int) -> str:
    first_or_link = depth == _DEPTH or os.path.islink(path)  # noqa: PTH114
    if first_or_link and not os.path.realpath(path).startswith(top.rstrip("/") + "/"):
        return one_line(os.path.relpath(path, top), 200)
    if depth == 0 or not os.path.isdir(path):  # noqa: PTH112
        return ""
    with os.scandir(path) as entries:
        children = list(entries)
    for entry in children:
        if not (entry.is_symlink() or entry.is_dir(follow_symlinks=False)):
            continue
        found = _leads_out(top, entry.path, depth - 1)
        if found:
            return found
    return ""
