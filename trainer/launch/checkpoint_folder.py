"""`checkpoint.dir`: checkpoints outside the run directory, in a folder that one run owns."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from shared.checkpoints.catalogue import list_checkpoints
from shared.checkpoints.owner import OWNER
from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.text import one_line
from trainer.config.schema import Config


def check_checkpoint_folder(config: Config) -> None:
    """Raise UserError when `checkpoint.dir` cannot be made or holds another run's checkpoints."""
    if config.checkpoint.dir is None:
        return
    folder = Path(config.checkpoint.dir)
    above = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    if os.path.lexists(above) and not above.is_dir():
        raise UserError(f"--checkpoint-dir {folder} cannot be used: {above} is not a folder.")
    present = list_checkpoints(folder)
    if present:
        raise UserError(
            f"--checkpoint-dir {folder} already holds checkpoints ({present[-1].name}); resume "
            f"them with --resume {shlex.quote(str(folder))}, or choose another folder."
        )


def make_checkpoint_folder(config: Config) -> Path | None:
    """Create the folder `checkpoint.dir` names, if it names one. Raises UserError."""
    if config.checkpoint.dir is None:
        return None
    folder = Path(config.checkpoint.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--checkpoint-dir {folder} cannot be created: {error.strerror}; choose another."
        ) from error
    return folder.resolve()


def use_checkpoint_folder(folder: Path, run: RunDirectory) -> None:
    """Make `folder` the run's and link it as `checkpoints/`. Raises UserError if it is taken."""
    _own(folder, run)
    run.checkpoints.rmdir()
    run.checkpoints.symlink_to(folder)


def _own(folder: Path, run: RunDirectory) -> None:
    """Write the owner's note in one step, so that two runs never share the folder."""
    note = folder / OWNER
    try:
        fd = os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        owner = Path(note.read_text(errors="replace").strip())
        if owner.is_dir():
            raise UserError(
                f"--checkpoint-dir {folder} belongs to the run {one_line(owner.name)}; resume "
                "that run, or choose another folder."
            ) from error
        note.unlink()  # its run was deleted, and no checkpoint is left
        _own(folder, run)
        return
    with os.fdopen(fd, "w") as file:
        file.write(f"{run.path.resolve()}\n")
