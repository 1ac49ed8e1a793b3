"""Which checkpoints a command means, and whose run they belong to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shared.checkpoints.catalogue import CheckpointInfo
    from shared.run.directory import RunDirectory

PlaceArgument = Annotated[
    str,
    typer.Argument(metavar="RUN|PATH", help="Run id, name, path, latest; or a checkpoints folder."),
]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="STEP|NAME…", help="Steps or names of checkpoints.")
]


def checkpoints_meant(reference: str, runs_dir: Path) -> tuple[Path, list[str]]:
    """The checkpoints folder meant, and the one in it when one checkpoint is meant."""
    from shared.checkpoints.catalogue import is_checkpoint, list_checkpoints
    from shared.run.directory import find_run

    path = Path(reference)
    if path.is_dir():
        path = path.resolve()
        if (path / "manifest.json").is_file() or is_checkpoint(path):
            return path.parent, [path.name]
        if list_checkpoints(path):
            return path, []
        if list_checkpoints(path / "checkpoints"):
            return (path / "checkpoints").resolve(), []
    return find_run(runs_dir, reference).checkpoints.resolve(), []


def run_meant(reference: str, runs_dir: Path) -> RunDirectory:
    """The run meant, also by its checkpoints folder."""
    from shared.checkpoints.owner import owner_of
    from shared.errors import UserError
    from shared.run.directory import RunDirectory, find_run
    from shared.text import one_line

    path = Path(reference)
    if path.is_dir() and not (path / "run_state.json").is_file():
        folder = path.resolve()
        run = RunDirectory(folder.parent)
        if folder.name == "checkpoints" and run.state_path.is_file():
            return run
        owner = owner_of(folder)  # a folder of --checkpoint-dir names its run
        if owner is not None and owner.state_path.is_file():
            return owner
        if not (path / "metrics.jsonl").is_file():
            raise UserError(f"{one_line(path)} is no run; give a run's id, name or folder.")
    return find_run(runs_dir, reference)


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
            raise UserError(f"{name} was set aside and is no checkpoint any more.")
    return [info for name, info in listed.items() if not wanted or name in wanted]


@contextlib.contextmanager
def owned(run: RunDirectory) -> Iterator[bool]:
    """Whether the run's lock is ours while this is entered; not when its trainer lives.

    Raises UserError where the run may not be written.
    """
    from shared.errors import UserError
    from shared.ownership.health import observe
    from shared.ownership.lock import LockHeldError, RunLock
    from shared.run.records import RunState
    from shared.text import one_line

    if observe(run, run.read_state() or RunState()).alive:
        yield False
        return
    lock = RunLock(run.lock_path)
    try:
        lock.acquire()
    except LockHeldError:
        yield False
        return
    except OSError as error:
        raise UserError(
            f"{one_line(run.path)} cannot be changed: {error.strerror}; nothing was touched."
        ) from error
    try:
        yield True
    except PermissionError as error:
        place = one_line(error.filename or run.checkpoints)
        raise UserError(f"{place} cannot be changed: {error.strerror}.") from error
    finally:
        lock.release()
