"""An average of the weights as a checkpoint of its own, which transformers loads."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from shared.checkpoints.catalogue import remove_checkpoint
from shared.checkpoints.manifest import write_manifest
from shared.files import fsync_directory, fsync_file
from trainer.checkpoint.saving import Snapshot, write_model


def write_average(checkpoints: Path, name: str, snapshot: Snapshot) -> Path:
    """Write the folder `name` with the average of that name in the snapshot's state.

    It takes the place of an older one. Raises OSError.
    """
    weights = {
        key: snapshot.state.get(f"{name}.{key}", own) for key, own in snapshot.weights.items()
    }
    progress = replace(snapshot.progress, loss=None, val_loss=None, val_reward=None)
    temporary = checkpoints / f".tmp-{name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        write_model(temporary, replace(snapshot, weights=weights, progress=progress))
        for path in temporary.iterdir():
            fsync_file(path)
        write_manifest(temporary, progress.step, {"run_id": snapshot.run_id, "average": name})
        fsync_directory(temporary)
        folder = checkpoints / name
        if folder.exists():
            remove_checkpoint(folder)
        temporary.rename(folder)
        fsync_directory(checkpoints)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder
