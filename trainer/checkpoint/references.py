"""What a person means by RUN, RUN:STEP or PATH: the one resolver of every command.

A plain word names a run first, then a folder or file. `./shakes` and everything else with a slash
is a path. `RUN:500`, `RUN:best` and `PATH:final` name one checkpoint. Loads no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.checkpoints.catalogue import AVERAGES, META, is_checkpoint, list_checkpoints
from shared.checkpoints.owner import owner_of
from shared.checkpoints.prune import named
from shared.errors import UserError
from shared.files import expand_user, read_json
from shared.run.directory import RunDirectory
from shared.run.finding import (
    ambiguous,
    check_reference,
    is_path,
    named_run,
    same_place,
    shown_path,
    unknown_run,
)
from shared.text import one_line
from trainer.checkpoint.finding import find_checkpoint, is_gguf, packed_or_plain
from trainer.checkpoint.foreign_folder import is_sharded


@dataclass(frozen=True)
class Meant:
    """What a reference names: a run, a checkpoint of a run, or a folder or file of its own.

    `path` is the run's folder, the checkpoints folder, the checkpoint, or the file. `run` is the
    run it belongs to, if any; `checkpoint` whether one checkpoint of it is meant.
    """

    path: Path
    run: RunDirectory | None = None
    checkpoint: bool = False

    @property
    def checkpoints(self) -> Path:
        """The folder with the checkpoints of the run, or of a folder of its own."""
        if self.run is not None and not self.checkpoint:
            return self.run.checkpoints.resolve()
        if self.checkpoint:
            return self.path.parent
        inside = self.path / "checkpoints"
        return inside.resolve() if list_checkpoints(inside) else self.path

    def find(self) -> Path:
        """The checkpoint folder: the newest intact one of a run. Raises UserError, RunError."""
        return find_checkpoint(self.path)


def resolve_reference(reference: str, runs_dir: Path) -> Meant:
    """What `reference` names. Raises UserError when it names nothing, or two different things."""
    check_reference(reference, "run or checkpoint")
    found = _whole(reference, runs_dir)
    if found is not None:
        return found
    place, colon, step = reference.rpartition(":")
    if colon and place and step and "/" not in step:
        found = _whole(place, runs_dir)
        if found is None:
            raise _nothing(place, runs_dir)
        if found.checkpoint:
            raise UserError(
                f"{one_line(place)} is one checkpoint already; leave out :{one_line(step, 60)}."
            )
        folder = found.checkpoints
        average = step in AVERAGES and is_checkpoint(folder / step)
        name = step if average else named(folder, step)
        return Meant((folder / name).resolve(), found.run, checkpoint=True)
    raise _nothing(reference, runs_dir)


def _whole(reference: str, runs_dir: Path) -> Meant | None:
    """What the text as a whole names, or None."""
    path = packed_or_plain(expand_user(reference))
    if path is not None and is_path(reference):
        return _at(path)
    run = named_run(runs_dir, reference)
    if run is None:
        return None if path is None else _at(path)
    if path is not None and not same_place(path, run.path) and _is_usable(path):
        raise ambiguous(reference, run, _described(path))
    return Meant(run.path.resolve(), run)


def _at(path: Path) -> Meant:
    """What a path names."""
    real = path.resolve()
    folder = real if real.is_dir() else real.parent
    run = RunDirectory(real)
    if real.is_dir() and (run.config_path.is_file() or run.state_path.is_file()):
        return Meant(real, run)
    above = RunDirectory(real.parent)
    if real.is_dir() and real == above.checkpoints.resolve() and _is_run(above):
        return Meant(real, above)
    owner = owner_of(real)  # a folder of --checkpoint-dir names its run
    if owner is not None:
        return Meant(real, owner)
    if not is_checkpoint(folder):
        return Meant(real)
    return Meant(real, owner_of_checkpoint(folder), checkpoint=True)


def owner_of_checkpoint(checkpoint: Path) -> RunDirectory | None:
    """The run whose checkpoints folder holds `checkpoint`; None when it belongs to no known run."""
    near = RunDirectory(checkpoint.parent.parent)
    if checkpoint.parent.name == "checkpoints" and near.config_path.is_file():
        return near
    meta = read_json(checkpoint / META) or {}
    recorded = meta.get("run_path")
    if isinstance(recorded, str) and "\0" not in recorded:
        run = RunDirectory(Path(recorded))
        if run.config_path.is_file() and run.checkpoints.resolve() == checkpoint.parent:
            return run
    return None


def _is_run(run: RunDirectory) -> bool:
    return run.config_path.is_file() or run.state_path.is_file()


def _is_usable(path: Path) -> bool:
    """Whether a person may mean this file or folder as a run or a model."""
    if path.is_file():
        return is_gguf(path) or path.name.endswith((".safetensors", ".json", ".gguf"))
    return (
        _is_run(RunDirectory(path))
        or is_checkpoint(path)
        or is_sharded(path)
        or bool(list_checkpoints(path) or list_checkpoints(path / "checkpoints"))
    )


def _described(path: Path) -> str:
    kind = "file" if path.is_file() else "run in" if _is_run(RunDirectory(path)) else "folder"
    return f"the {kind} {shown_path(path)}"


def _nothing(reference: str, runs_dir: Path) -> UserError:
    """The error for a reference that names nothing."""
    if reference.removeprefix("step_").isdecimal():
        return UserError(
            f"{one_line(reference, 40)} is a step; name its run too, such as RUN:"
            f"{one_line(reference.removeprefix('step_'), 40)}."
        )
    is_file = reference.lower().endswith((".gguf", ".safetensors", ".json"))
    if is_path(reference) or is_file:
        return UserError(f"There is no checkpoint at {one_line(reference)}.")
    return unknown_run(runs_dir, reference)
