"""Whether a run can be resumed by the trainer at all: only a run that a trainer began can."""

from __future__ import annotations

from shared.checkpoints.catalogue import META, list_checkpoints
from shared.files import open_file
from shared.run.directory import RunDirectory
from shared.text import one_line

#: The first key in the `config.yaml` of a run that another program trains: that program's name.
TRAINED_BY = "trained_by"
_LONGEST = 200  # bytes of that line


def why_no_trainer_resumes(run: RunDirectory) -> str:
    """Why `trainer resume` cannot continue `run`, as a sentence; empty if nothing is against it."""
    name = one_line(run.run_id, 120)
    if run.config_path.exists():
        other = _trained_by(run)
        return f"{name} is trained by {other}; only that program can resume it." if other else ""
    if list_checkpoints(run.checkpoints):
        return (
            f"{name} cannot be resumed without its config.yaml; restore it from the copy in the "
            f"{META} of any of its checkpoints."
        )
    return (
        f"{name} has no config.yaml, so another program trains it, and only that program can "
        "resume it."
    )


def _trained_by(run: RunDirectory) -> str:
    """The other program that trains the run; empty for our own trainer."""
    try:
        with open_file(run.config_path) as file:
            key, _, value = file.readline(_LONGEST).decode(errors="replace").partition(":")
    except OSError:
        return ""
    return one_line(value.strip().strip("'\"")) if key == TRAINED_BY else ""
