"""Queueing the runs of a sweep, all or none of them.

The runs are made in a hidden folder, which is then marked as complete, and moved into the runs
directory one by one. Whatever a kill leaves of that is finished by the next sweep command: moved if
it was complete, deleted if not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.checkpoints.bases import claim_bases
from shared.errors import RunError, UserError
from shared.files import fsync_directory, replace_file
from shared.ownership.claim import hold_lock
from shared.ownership.lock import LockHeldError
from shared.run.directory import RunDirectory
from shared.text import one_line
from trainer.launch.claim import check_writable
from trainer.launch.create import create
from trainer.sweep.groups import find_groups
from trainer.sweep.sweep import Sweep

FOLDER = ".sweeps"
_STAGE, _COMPLETE, _LOCK = "stage", "complete", "lock"
WAIT = 30.0  # seconds for another sweep to be queued


def queue_sweep(sweep: Sweep, runs_dir: Path) -> list[RunDirectory]:
    """Queue every run of a sweep, in its order.

    Raises UserError, RunError; nothing is queued then.
    """
    check_writable(runs_dir)
    with _alone(runs_dir) as folder:
        _finish(folder, runs_dir)
        if sweep.group in find_groups(runs_dir):
            raise UserError(f"There is a group {sweep.group!r} now; choose another --group.")
        stage = folder / _STAGE
        try:
            stage.mkdir()
            for planned in sweep.runs:
                create(
                    planned.config,
                    stage,
                    supervised=True,
                    max_steps=planned.max_steps,
                    group=sweep.group,
                    group_limit=sweep.limit,
                    swept=planned.swept,
                )
            replace_file(folder / _COMPLETE, b"")
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        return _move(folder, runs_dir)


def finish_interrupted(runs_dir: Path) -> None:
    """Finish what a killed `trainer sweep` has left. Raises UserError, RunError."""
    if os.path.lexists(runs_dir / FOLDER / _STAGE):
        with _alone(runs_dir) as folder:
            _finish(folder, runs_dir)


@contextlib.contextmanager
def _alone(runs_dir: Path) -> Iterator[Path]:
    """The folder of sweeps, in which nobody else is at work meanwhile."""
    folder = runs_dir / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(folder / _LOCK, WAIT):
            yield folder
    except LockHeldError as error:
        raise RunError(f"Another sweep is being queued by {error.holder}; try again.") from error
    except OSError as error:
        raise RunError(
            f"The sweep cannot be queued in {one_line(runs_dir)}: {error.strerror}; check its "
            "permissions and the free space."
        ) from error


def _finish(folder: Path, runs_dir: Path) -> None:
    if (folder / _COMPLETE).exists():
        _move(folder, runs_dir)
    elif (folder / _STAGE).exists():
        shutil.rmtree(folder / _STAGE)


def _move(folder: Path, runs_dir: Path) -> list[RunDirectory]:
    """Move the runs of the stage into the runs directory, in their order."""
    stage = folder / _STAGE
    moved: list[RunDirectory] = []
    if stage.is_dir():
        staged = [RunDirectory(path) for path in stage.iterdir() if path.is_dir()]
        moved = [
            RunDirectory(_free_place(run.path, runs_dir)) for run in sorted(staged, key=_since)
        ]
        for run in moved:
            claim_bases(run)  # where it is now
        fsync_directory(runs_dir)
        shutil.rmtree(stage)
    (folder / _COMPLETE).unlink(missing_ok=True)
    return moved


def _since(run: RunDirectory) -> tuple[float, str]:
    state = run.read_state()
    return (state.started_at or 0.0 if state else 0.0), run.run_id


def _free_place(path: Path, runs_dir: Path) -> Path:
    """Move a folder into the runs directory, under another name where its own is taken."""
    for suffix in range(1, 10_000):
        target = runs_dir / (path.name if suffix == 1 else f"{path.name}_{suffix}")
        if os.path.lexists(target):
            continue
        path.rename(target)
        return target
    raise RunError(f"{one_line(runs_dir)} already holds 10000 runs named {one_line(path.name)}.")
