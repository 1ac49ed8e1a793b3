"""Which checkpoints a command means, and whose run they belong to."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shared.checkpoints.catalogue import CheckpointInfo
    from shared.control.idle_run import IdleRun
    from shared.run.directory import RunDirectory

_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

PlaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|PATH", help="Run id, name or path, latest, or a checkpoints folder."
    ),
]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="STEPS|NAMES", help="Steps or names of checkpoints.")
]


def checkpoints_meant(reference: str, runs_dir: Path) -> tuple[Path, list[str]]:
    """The checkpoints folder meant, and the one in it when one checkpoint is meant."""
    from shared.checkpoints.catalogue import list_checkpoints
    from shared.errors import UserError
    from shared.text import one_line
    from trainer.checkpoint.references import resolve_reference

    meant = resolve_reference(reference, runs_dir)
    if meant.checkpoint:
        return meant.path.parent, [meant.path.name]
    if (meant.path / "manifest.json").is_file():  # a checkpoint whose weights are missing
        return meant.path.parent, [meant.path.name]
    if meant.run is None and not list_checkpoints(meant.checkpoints):
        raise UserError(
            f"There is no run in {one_line(reference)}; give a run's id, name or folder."
        )
    return meant.checkpoints, []


def run_meant(reference: str, runs_dir: Path) -> RunDirectory:
    """The run meant, also by its checkpoints folder."""
    from shared.errors import UserError
    from shared.run.directory import is_run
    from shared.text import one_line
    from trainer.checkpoint.references import resolve_reference

    meant = resolve_reference(reference, runs_dir)
    if meant.run is None or meant.checkpoint or not is_run(meant.run):
        raise UserError(
            f"There is no run in {one_line(reference)}; give a run's id, name or folder."
        )
    return meant.run


def named_checkpoints(folder: Path, names: Sequence[str] | None) -> list[CheckpointInfo]:
    """The checkpoints of these steps or names, all of them by default. Raises UserError."""
    from shared.checkpoints.catalogue import list_checkpoints
    from shared.checkpoints.prune import named
    from shared.errors import UserError

    listed = {info.name: info for info in list_checkpoints(folder)}
    if not listed:
        raise UserError(f"{folder} holds no checkpoints.")
    wanted = dict.fromkeys(named(folder, text) for text in names or ())
    for name in wanted:
        if name not in listed:
            raise UserError(f"{name} was set aside and cannot be used.")
    return [info for name, info in listed.items() if not wanted or name in wanted]


@contextlib.contextmanager
def owned(run: RunDirectory) -> Iterator[IdleRun | None]:
    """The run, held until the end of the block; None while its trainer lives.

    Raises UserError where the run may not be written.
    """
    from shared.control.idle_run import hold_if_idle

    with told_unwritable(run), hold_if_idle(run) as idle:
        yield idle


@contextlib.contextmanager
def told_unwritable(run: RunDirectory) -> Iterator[None]:
    """Turn a missing permission into a UserError that names the file."""
    from shared.errors import UserError
    from shared.text import one_line

    try:
        yield
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
        place = one_line(error.filename or run.path)
        raise UserError(f"{place} cannot be changed: {error.strerror}.") from error
