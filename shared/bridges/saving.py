"""Checkpoints that a bridge saves on request: a folder `step_N` with a manifest, as ours are."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from shared.checkpoints.catalogue import LATEST, set_link, step_folder
from shared.checkpoints.manifest import write_manifest
from shared.files import fsync_directory
from shared.run.directory import RunDirectory


def place_for(run: RunDirectory, step: int) -> Path:
    """The folder to write the files into; `put_in_place` makes a checkpoint of it."""
    folder = run.checkpoints / f".tmp-step_{step}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def put_in_place(run: RunDirectory, step: int, written: Path, **facts: Any) -> tuple[str, int]:
    """Describe what was written and rename it into place; returns its name and its bytes."""
    manifest = write_manifest(written, step, facts)
    target = step_folder(run.checkpoints, step)
    if target.exists():
        shutil.rmtree(target)
    written.rename(target)
    fsync_directory(run.checkpoints)
    set_link(run.checkpoints, LATEST, target)
    return target.name, manifest.total_bytes
