"""Writing what was measured into the checkpoint that was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.evaluate.origin import Origin


def write_into_checkpoint(origin: Origin, write: Callable[[Path], None]) -> str:
    """Call `write` with the checkpoint's folder and those that hold the same one.

    Returns what was written. Raises RunError where it cannot be.
    """
    from shared.checkpoints.catalogue import in_use, twins
    from shared.checkpoints.evaluation import EVALUATION
    from shared.errors import RunError
    from shared.text import one_line

    if origin.checkpoint is None:
        return (
            f"Nothing was written: {one_line(origin.path)} is not a checkpoint of a run. "
            "Use --output FILE to keep the results."
        )
    place = origin.checkpoint / EVALUATION
    try:
        with in_use(origin.checkpoint):
            for folder in (origin.checkpoint, *twins(origin.checkpoint)):
                write(folder)
    except OSError as error:
        raise RunError(
            f"{one_line(place)} cannot be written: {error.strerror}; --no-save measures without "
            "writing, --output FILE writes elsewhere."
        ) from error
    return f"written to {one_line(place, 400)}"
