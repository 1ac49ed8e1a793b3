"""The trash of a checkpoints folder: journalled batches, brought back or deleted for good.

A batch is `.trash/NUMBER/`, with a journal that is written before anything moves. A checkpoint
goes in and out by one rename: whenever a process is killed, each is whole in one of two places.
All of it is for the holder of the run's lock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.checkpoints.catalogue import claimed, list_checkpoints
from shared.checkpoints.manifest import MANIFEST
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
from shared.errors import UserError
from shared.files import fsync_directory, read_json, remove_temporaries, write_json
from shared.run.records import SCHEMA_VERSION
from shared.text import one_line

Tell = Callable[..., None]
"""Writes an event: `tell(kind, name=…, …)`."""


def untold(kind: str, **fields: Any) -> None:
    """A `Tell` that nobody hears."""


@dataclass(frozen=True)
class Doomed:
    """A folder that shall go: how much it is, and why it goes."""

    name: str
    files: int
    bytes: int
    reason: str


@dataclass(frozen=True)
class TrashSize:
    """What lies in the trash: checkpoints, and the bytes that emptying it would free."""

    checkpoints: int = 0
    bytes: int = 0


def folder_size(folder: Path) -> tuple[int, int]:
    """Files and bytes in a checkpoint. What cannot be read counts as nothing."""
    sizes = [status.st_size for status in _files(folder)]
    return len(sizes), sum(sizes)


def freed_bytes(folders: Iterable[Path]) -> int:
    """Bytes that a disk wins when all of `folders` are deleted.

    A file that is hard-linked from elsewhere stays: `final/` shares those of its step.
    """
    seen: dict[tuple[int, int], list[int]] = {}
    for folder in folders:
        for status in _files(folder):
            links = seen.setdefault((status.st_dev, status.st_ino), [0, 0, 0])
            links[0] += 1
            links[1:] = status.st_nlink, status.st_size
    return sum(size for count, links, size in seen.values() if count >= links)


def _files(folder: Path) -> list[os.stat_result]:
    found: list[os.stat_result] = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() or path.is_symlink():
                found.append(path.lstat())
    return found


def in_trash(checkpoints: Path) -> TrashSize:
    """How much lies there."""
    folders = [f for batch in batches(checkpoints / TRASH) for f in members(batch)]
    # What an interrupted emptying has left is no checkpoint any more, and still takes its place.
    leftover = half_deleted(checkpoints / TRASH)
    return TrashSize(len(folders), freed_bytes([*folders, *leftover]))


def throw_away(checkpoints: Path, doomed: Sequence[Doomed], tell: Tell = untold) -> None:
    """Move the folders into a new batch. Raises UserError, with nothing moved, if one is in use."""
    settle(checkpoints, tell)
    trash = checkpoints / TRASH
    with contextlib.ExitStack() as claims:
        for folder in _of_their_own([checkpoints / item.name for item in doomed]):
            if not claims.enter_context(claimed(folder)):
                raise UserError(
                    f"{one_line(folder.name)} is in use by another process; nothing was removed. "
                    "Try again when it has ended."
                )
        trash.mkdir(exist_ok=True)
        batch = next_batch(trash)
        batch.mkdir()
        _write_journal(batch, MOVING, doomed)
        fsync_directory(trash)
        fsync_directory(checkpoints)
        for item in doomed:
            (checkpoints / item.name).rename(batch / item.name)
        _finish_moving(checkpoints, batch, doomed, tell)


def _of_their_own(folders: Iterable[Path]) -> list[Path]:
    """Of folders that share their manifest (`final` and its step) one: it can be locked once."""
    found: dict[object, Path] = {}
    for folder in folders:
        try:
            status = (folder / MANIFEST).stat()
            found.setdefault((status.st_dev, status.st_ino), folder)
        except OSError:
            found[folder] = folder
    return list(found.values())


def _finish_moving(checkpoints: Path, batch: Path, moved: Sequence[Doomed], tell: Tell) -> None:
    fsync_directory(batch)
    fsync_directory(checkpoints)
    for item in moved:
        tell("checkpoint_removed", name=item.name, reason=item.reason, bytes=item.bytes)
    _write_journal(batch, DONE, moved)


def undo(checkpoints: Path, tell: Tell = untold) -> list[str]:
    """Bring the newest batch back; returns the names.

    Raises UserError when there is none, or when a name has been taken meanwhile.
    """
    settle(checkpoints, tell)
    # A batch may stay without members, because of a file in it that is not ours.
    waiting = [batch for batch in batches(checkpoints / TRASH) if members(batch)]
    if not waiting:
        raise UserError(f"The trash of {checkpoints} is empty: there is nothing to restore.")
    batch = waiting[-1]
    names = [folder.name for folder in members(batch)]
    taken = [name for name in names if os.path.lexists(checkpoints / name)]
    if taken:
        raise UserError(
            f"{one_line(taken[0])} cannot be restored: another checkpoint has that name now; move "
            "it away first. Nothing was changed."
        )
    _write_journal(batch, RESTORING, _journalled(batch))
    return _restore(checkpoints, batch, tell)


def _restore(checkpoints: Path, batch: Path, tell: Tell) -> list[str]:
    names = [item.name for item in _journalled(batch)]
    for folder in members(batch):
        folder.rename(checkpoints / folder.name)
    fsync_directory(checkpoints)
    fsync_directory(batch)
    for name in names:
        tell("checkpoint_restored", name=name)
    remove_empty(batch)
    return names


def empty(checkpoints: Path, tell: Tell = untold) -> TrashSize:
    """Delete what is in the trash for good; returns what that was."""
    trash = checkpoints / TRASH
    size = in_trash(checkpoints)
    settle(checkpoints, tell)
    for batch in batches(checkpoints / TRASH):
        # One rename, and no undo finds it any more, however far the deletion comes.
        doom(batch)
    if trash.is_dir():
        fsync_directory(trash)
    settle(checkpoints, tell)
    for link in checkpoints.glob("ckpt_step_*.safetensors"):
        if link.is_symlink() and not (checkpoints / link.readlink()).parent.is_dir():
            link.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        trash.rmdir()
    return size


def settle(checkpoints: Path, tell: Tell = untold) -> None:
    """Bring what a killed process began to an end.

    A batch keeps what had moved, since what was left in place may be needed by now; a batch that
    was being brought back comes back; one that was being deleted is deleted.
    """
    trash = checkpoints / TRASH
    for path in half_deleted(trash):
        shutil.rmtree(path)
    for batch in batches(checkpoints / TRASH):
        remove_temporaries(batch)
        state = (read_json(batch / JOURNAL) or {}).get("state")
        present = {folder.name for folder in members(batch)}
        if state == RESTORING and not any(os.path.lexists(checkpoints / n) for n in present):
            _restore(checkpoints, batch, tell)
        elif not present:
            remove_empty(batch)
        elif state == MOVING:
            moved = [item for item in _journalled(batch) if item.name in present]
            _finish_moving(checkpoints, batch, moved, tell)


def restored_newest(checkpoints: Path, names: Iterable[str]) -> str | None:
    """The one of `names` that is now the newest checkpoint, from which a resume would go on."""
    steps = [info.name for info in list_checkpoints(checkpoints)]
    return steps[-1] if steps and steps[-1] in set(names) else None


def _write_journal(batch: Path, state: str, items: Sequence[Doomed]) -> None:
    record = {
        "schema_version": SCHEMA_VERSION,
        "state": state,
        "time": time.time(),
        "checkpoints": [vars(item) for item in items],
    }
    write_json(batch / JOURNAL, record)


def _journalled(batch: Path) -> list[Doomed]:
    """What the journal names; what lies there, where it cannot be read."""
    items = (read_json(batch / JOURNAL) or {}).get("checkpoints")
    try:
        return [Doomed(i["name"], i["files"], i["bytes"], i["reason"]) for i in items or ()] or (
            _found(batch)
        )
    except (KeyError, TypeError):
        return _found(batch)


def _found(batch: Path) -> list[Doomed]:
    return [Doomed(f.name, *folder_size(f), "pruned") for f in members(batch)]
