"""Whether a run can be resumed by the trainer at all: only a run that a trainer began can."""

from __future__ import annotations

from shared.checkpoints.catalogue import META, list_checkpoints
from shared.run.directory import RunDirectory
from shared.text import one_line


def why_no_trainer_resumes(run: RunDirectory) -> str:
    """Why `trainer resume` cannot continue `run`, as a sentence; empty if nothing is against it."""
    if run.config_path.exists():
        return ""
    name = one_line(run.run_id, 120)
    if list_checkpoints(run.checkpoints):
        return (
            f"{name} cannot be resumed without its config.yaml; restore it from the copy in the "
            f"{META} of any of its checkpoints."
        )
    return (
        f"{name} has no config.yaml, so another program trains it, and only that program can "
        "resume it."
    )
