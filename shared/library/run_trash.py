"""The trash of a runs directory: deleted runs that can be restored until the trash is emptied.

A batch is `.trash/NUMBER/`, as in the trash of a checkpoints folder: a journal that is written
before anything moves, and the runs beside it. A run moves in and out with one rename, so after a
kill it is complete in one of two places. Whoever changes the trash holds `.trash/lock`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.checkpoints.catalogue import claimed, list_checkpoints
from shared.checkpoints.manifest import MANIFEST
from shared.checkpoints.trash import freed_bytes
from shared.checkpoints.trash_folder import (
    DONE,
    JOURNAL,
    MOVING,
    RESTORING,
    TRASH,
    batches,
    doom,
    half_deleted,
    members,
    next_batch,
    remove_empty,
)
from shared.errors import RunError, UserError
from shared.files import fsync_directory, read_json, remove_temporaries, write_json
from shared.json_text import Json, is_number
from shared.library.deletion import DoomedRun, refusal
from shared.ownership.claim import hold_lock
from shared.ownership.lock import LockHeldError
from shared.run.directory import RunDirectory
from shared.run.records import SCHEMA_VERSION
from shared.text import one_line

LOCK = "lock"
WAIT = 5.0  # seconds for another process that changes the trash


@dataclass(frozen=True)
class TrashedRun:
    """A run in the trash, with its size and time of deletion."""

    run_id: str
    path: Path
    batch: int
    time: float
    files: int
    bytes: int


# -- looking -----------------------------------------------------------------------------------


def list_trash(runs_dir: Path) -> list[TrashedRun]:
    """The runs in the trash, the last deleted first; none if it cannot be read."""
    with contextlib.suppress(OSError):
        return _listed(runs_dir)
    return []


def _listed(runs_dir: Path) -> list[TrashedRun]:
    found: list[TrashedRun] = []
    for batch in reversed(batches(runs_dir / TRASH)):
        journal = read_json(batch / JOURNAL) or {}
        sizes = _journalled(journal)
        moment = journal.get("time")
        when = float(moment) if is_number(moment) else 0.0  # type: ignore[arg-type]
        for path in members(batch):
            files, size = sizes.get(path.name, (0, 0))
            found.append(TrashedRun(path.name, path, int(batch.name), when, files, size))
    return found


def trash_bytes(runs_dir: Path) -> int:
    """The bytes that emptying the trash would free."""
    # The remains of an interrupted emptying are no longer runs but still take space.
    trash = runs_dir / TRASH
    return freed_bytes([*batches(trash), *half_deleted(trash)])


# -- deleting ----------------------------------------------------------------------------------


def throw_away_runs(doomed: Sequence[DoomedRun], wait: float = WAIT) -> None:
    """Move runs of one runs directory into a new batch, from which `restore_runs` restores them.

    Raises UserError, with nothing moved, if one cannot be deleted: it is alive, in use, or not a
    folder.
    """
    if not doomed:
        return
    runs_dir = doomed[0].run.path.parent
    if any(item.run.path.parent != runs_dir for item in doomed):
        raise UserError("Runs of several folders cannot go into one trash; delete them separately.")
    for item in doomed:
        if told := refusal(item.run):  # the preview may be minutes old
            raise UserError(told)
    with _changing(runs_dir, wait) as trash, contextlib.ExitStack() as held:
        _settle(runs_dir)
        for item in doomed:
            _hold(item.run, held)
        batch = next_batch(trash)
        batch.mkdir()
        journal: Json = {
            "schema_version": SCHEMA_VERSION,
            "state": MOVING,
            "time": time.time(),
            "runs": [
                {"run_id": item.run.run_id, "files": item.files, "bytes": item.bytes}
                for item in doomed
            ],
        }
        write_json(batch / JOURNAL, journal)
        fsync_directory(trash)
        fsync_directory(runs_dir)
        for item in doomed:
            item.run.path.rename(batch / item.run.run_id)
        _finish_moving(runs_dir, batch, journal)


def _hold(run: RunDirectory, held: contextlib.ExitStack) -> None:
    """Hold `run` and its checkpoints until `held` ends. Raises UserError if one is in use."""
    try:
        held.enter_context(hold_lock(run.lock_path))
    except LockHeldError as error:
        who = error.holder or "another process"
        raise UserError(
            f"{one_line(run.run_id)} is owned by {who}; nothing was deleted. Stop it first."
        ) from error
    # Checkpoints in an outside folder stay in place, so readers do not matter.
    for folder in [] if run.checkpoints.is_symlink() else _to_claim(run):
        if not held.enter_context(claimed(folder)):
            raise UserError(
                f"{one_line(folder.name)} of {one_line(run.run_id)} is in use by another process; "
                "nothing was deleted. Try again when it has ended."
            )


def _to_claim(run: RunDirectory) -> list[Path]:
    """One of the checkpoints that share a manifest (`final` and its step): it locks once."""
    found: dict[tuple[int, int], Path] = {}
    for info in list_checkpoints(run.checkpoints):
        with contextlib.suppress(OSError):  # without a manifest it cannot be in use
            status = (info.path / MANIFEST).stat()
            found.setdefault((status.st_dev, status.st_ino), info.path)
    return list(found.values())


def _finish_moving(runs_dir: Path, batch: Path, journal: Mapping[str, object]) -> None:
    fsync_directory(batch)
    fsync_directory(runs_dir)
    write_json(batch / JOURNAL, {**journal, "state": DONE})


# -- restoring ---------------------------------------------------------------------------------


def restore_runs(
    runs_dir: Path, run_ids: Collection[str] | None = None, wait: float = WAIT
) -> dict[str, str]:
    """Restore runs, by default those of the newest batch; returns run id → present name.

    Of several deleted runs with the same name, the last one is restored. If the name is taken, it
    gets a suffix. Raises UserError, with nothing changed, for a run that is not in the trash.
    """
    asked = set(run_ids) if run_ids is not None else None
    _asked_for(runs_dir, asked)  # before a trash folder is created
    with _changing(runs_dir, wait):
        _settle(runs_dir)
        restored: dict[str, str] = {}
        for batch, members in _asked_for(runs_dir, asked).items():
            targets: dict[str, str] = {}
            for run_id in members:
                targets[run_id] = _free_name(runs_dir, run_id, set(restored.values()))
                restored[run_id] = targets[run_id]
            journal = read_json(batch / JOURNAL) or {}
            write_json(batch / JOURNAL, {**journal, "state": RESTORING, "restore": targets})
            _restore(runs_dir, batch, targets)
        return restored


def _asked_for(runs_dir: Path, run_ids: Collection[str] | None) -> dict[Path, list[str]]:
    # A batch may stay without runs, because of a file in it that is not ours.
    waiting = [batch for batch in reversed(batches(runs_dir / TRASH)) if members(batch)]
    if not waiting:
        raise UserError(f"The trash of {one_line(runs_dir)} is empty: there is nothing to restore.")
    if run_ids is None:
        return {waiting[0]: [path.name for path in members(waiting[0])]}
    asked: dict[Path, list[str]] = {}
    for run_id in dict.fromkeys(run_ids):
        holding = [b for b in waiting if run_id in {path.name for path in members(b)}]
        if not holding:
            raise UserError(
                f"{one_line(run_id)!r} is not in the trash of {one_line(runs_dir)}; "
                "trainer runs list --trash shows what is."
            )
        asked.setdefault(holding[0], []).append(run_id)
    return asked


def _free_name(runs_dir: Path, run_id: str, taken: Collection[str] = ()) -> str:
    count = 1
    while (name := run_id if count == 1 else f"{run_id}_{count}") in taken or os.path.lexists(
        runs_dir / name
    ):
        count += 1
    return name


def _restore(runs_dir: Path, batch: Path, targets: Mapping[str, str]) -> None:
    for run_id, name in targets.items():
        path = batch / run_id
        if path.is_dir():  # a killed process may have restored it already
            # Do not trust the journal: a name must not lead to another folder.
            plain = Path(name).name == name and not name.startswith(".")
            free = plain and not os.path.lexists(runs_dir / name)
            path.rename(runs_dir / (name if free else _free_name(runs_dir, run_id)))
    fsync_directory(runs_dir)
    fsync_directory(batch)
    if members(batch):
        journal = read_json(batch / JOURNAL) or {}
        journal.pop("restore", None)
        write_json(batch / JOURNAL, {**journal, "state": DONE})
    else:
        remove_empty(batch)


# -- deleting permanently ----------------------------------------------------------------------


def empty_run_trash(runs_dir: Path, wait: float = WAIT) -> int:
    """Delete the runs in the trash permanently; returns the bytes that were freed.

    Raises RunError when something cannot be deleted; the rest is gone then.
    """
    if not (runs_dir / TRASH).is_dir():
        return 0
    with _changing(runs_dir, wait) as trash:
        size = trash_bytes(runs_dir)
        _settle(runs_dir)
        for batch in batches(runs_dir / TRASH):
            # After this rename no restore finds it, even if the deletion is interrupted.
            doom(batch)
        fsync_directory(trash)
        _delete_emptied(trash)
        return size - trash_bytes(runs_dir)


def _delete_emptied(trash: Path) -> None:
    failures: list[OSError] = []
    for path in half_deleted(trash):
        try:
            shutil.rmtree(path)  # does not follow a link to checkpoints outside
        except OSError as error:
            failures.append(error)
    if failures:
        place = one_line(failures[0].filename or trash)
        raise RunError(
            f"{place} cannot be deleted: {failures[0].strerror}; it uses disk space until the "
            "trash is emptied again."
        )


# -- the trash itself --------------------------------------------------------------------------


@contextlib.contextmanager
def _changing(runs_dir: Path, wait: float) -> Iterator[Path]:
    """The trash, locked until the end of the block. Raises RunError."""
    trash = runs_dir / TRASH
    try:
        trash.mkdir(exist_ok=True)
        with hold_lock(trash / LOCK, wait):
            yield trash
    except LockHeldError as error:
        raise RunError(
            f"The trash of {one_line(runs_dir)} is being changed by {error.holder}; try again."
        ) from error
    except OSError as error:
        place = one_line(error.filename or trash)
        raise RunError(f"{place} cannot be changed: {error.strerror}.") from error


def _settle(runs_dir: Path) -> None:
    """Finish what a killed process began.

    A batch keeps the runs that had moved, and the others stay in place. A run that was being
    restored is restored; a run that was being deleted is deleted.
    """
    trash = runs_dir / TRASH
    with contextlib.suppress(RunError):  # only emptying reports what cannot be deleted
        _delete_emptied(trash)
    for batch in batches(runs_dir / TRASH):
        remove_temporaries(batch)
        journal = read_json(batch / JOURNAL) or {}
        targets = journal.get("restore")
        if journal.get("state") == RESTORING and isinstance(targets, dict):
            present = {path.name for path in members(batch)}
            _restore(runs_dir, batch, {k: str(v) for k, v in targets.items() if k in present})
        elif not members(batch):
            remove_empty(batch)
        elif journal.get("state") == MOVING:
            _finish_moving(runs_dir, batch, journal)


def _journalled(journal: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Files and bytes of each run when it was deleted."""
    runs = journal.get("runs")
    found: dict[str, tuple[int, int]] = {}
    for item in runs if isinstance(runs, list) else ():
        if isinstance(item, dict) and is_number(item.get("files")) and is_number(item.get("bytes")):
            found[str(item.get("run_id"))] = int(item["files"]), int(item["bytes"])
    return found
