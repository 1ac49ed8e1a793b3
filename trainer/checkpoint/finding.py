"""Finding the checkpoint a path refers to. Loads no torch, so a wrong path fails immediately."""

from __future__ import annotations

import contextlib
from pathlib import Path

from shared.checkpoints.catalogue import is_checkpoint, list_checkpoints, newest_sound
from shared.checkpoints.manifest import PACKED
from shared.errors import RunError, UserError
from shared.files import open_file
from shared.text import one_line
from trainer.checkpoint.foreign_folder import is_sharded, refuse_pickles


def find_checkpoint(reference: str | Path) -> Path:
    """The checkpoint folder for a folder, a file in one, a link to one, or a run directory.

    For a run it is the newest intact checkpoint. Raises UserError if there is none.
    """
    path = packed_or_plain(Path(reference))
    if path is None:
        raise UserError(f"There is no checkpoint at {one_line(reference)}.")
    path = path.resolve()
    if is_gguf(path):
        raise UserError(
            f"{one_line(path)} is a GGUF file, which can be run but is not a checkpoint; "
            "give a folder such as runs/RUN/checkpoints/step_500."
        )
    given = path
    if path.is_file():
        if not is_checkpoint(path.parent):
            refuse_pickles(path)
        path = path.parent
    if is_checkpoint(path) or is_sharded(path):
        return path
    for folder in (path / "checkpoints", path):
        if list_checkpoints(folder):
            newest, problems = newest_sound(folder)
            if newest is None:
                raise RunError(f"No checkpoint in {folder} is intact: {problems[0]}.")
            return newest.path
    refuse_pickles(path)
    raise UserError(
        f"{one_line(given)} is not a checkpoint: there is no model.safetensors with a config.json, "
        "and no adapter_model.safetensors; give a folder such as runs/RUN/checkpoints/step_500."
    )


def is_gguf(path: Path) -> bool:
    """Whether `path` is a file with the name or the first bytes of a GGUF file."""
    try:
        if path.suffix.lower() == ".gguf":
            return path.is_file()
        with open_file(path) as file:
            return file.read(4) == b"GGUF"
    except (OSError, ValueError):
        return False


def packed_or_plain(path: Path) -> Path | None:
    """`path`, or its compressed form if it has been compressed; None if there is neither.

    So the name of a weights file, or a link to one, still finds its checkpoint.
    """
    with contextlib.suppress(OSError, ValueError):  # a name that is too long
        if path.exists():
            return path
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # a loop of links, no name at all
        target = path.resolve()
        packed = target.with_name(target.name + PACKED)
        if packed.is_file():
            return packed
    return None
