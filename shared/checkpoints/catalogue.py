"""The checkpoints of a run: which there are, which are whole, latest, best, or in use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from shared.checkpoints.manifest import (
    MANIFEST,
    PACKED,
    find_problems,
    read_manifest,
    sizes_match,
    verify_folder,
)
from shared.errors import RunError
from shared.files import fsync_directory, remove_temporaries, replace_link
from shared.json_text import is_number

WEIGHTS = "model.safetensors"
#: LoRA adapters in PEFT's format; the weights are then those of the adapters alone.
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
BASE_RECORD = "base.json"  # which base model they are for
OPTIMIZER = "optimizer.safetensors"
TRAINER_STATE = "trainer_state.json"
META = "meta.json"
#: `checkpoint-N` is that of transformers' Trainer, once `shared.bridges` has given it a manifest.
_STEP_FOLDER = re.compile(r"(step_|checkpoint-)(\d{1,16})")
_THEIRS = "checkpoint-"
FINAL = "final"
LATEST = "latest"
BEST = "best"
AVERAGES = ("ema", "tail")  # of the weights: models beside the checkpoints
#: The fact of a manifest that lists the steps after which the run's model grew.
STAGE_ENDS = "stage_ends"
_CORRUPT = re.compile(r"(?:(?:step_|checkpoint-)\d{1,16}|final)\.corrupt(?:-\d+)?")
_SUPERSEDED = re.compile(r"superseded_\d+_(?:(?:step_|checkpoint-)\d{1,16}|final)")
_NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
USE_WAIT = 10.0  # seconds a reader waits for whoever moves the checkpoint just now
_TRY_SECONDS = 0.02
_CLAIM_TRIES = 10


@dataclass(frozen=True)
class CheckpointInfo:
    """One checkpoint as its manifest tells it. `whole`: the manifest and all sizes are right.

    `ends_stage`: the run's model grew after it, so it is the last one of a smaller model.
    """

    path: Path
    step: int
    bytes: int
    created_at: float
    whole: bool
    loss: float | None
    val_loss: float | None
    val_reward: float | None = None
    is_latest: bool = False
    is_best: bool = False
    packed: bool = False
    ends_stage: bool = False

    @property
    def name(self) -> str:
        """The folder's name: `step_500`, `final`."""
        return self.path.name

    @property
    def cost(self) -> float | None:
        """What its validation found, the lower the better: the loss, or the negated reward."""
        return -self.val_reward if self.val_reward is not None else self.val_loss


def twins(folder: Path) -> list[Path]:
    """Other checkpoints of the run with the very same weights: `final` repeats the last step."""
    own = read_manifest(folder)
    if own is None:
        return []
    name = weights_name(folder)
    wanted = {name: own.files.get(name) for name in (name, name + PACKED)}
    found: list[Path] = []
    for info in list_checkpoints(folder.resolve().parent):
        other = read_manifest(info.path) if info.name != folder.resolve().name else None
        if other and any(e is not None and other.files.get(n) == e for n, e in wanted.items()):
            found.append(info.path)
    return found


def step_folder(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return checkpoints / f"step_{step}"


def list_checkpoints(checkpoints: Path) -> list[CheckpointInfo]:
    """Every checkpoint folder, by step; `final` after the step it repeats. Empty if there is none.

    Only manifests are read; `verify_folder` reads the data.
    """
    try:
        folders = [p for p in checkpoints.iterdir() if p.is_dir() and not p.is_symlink()]
    except OSError:
        return []
    latest, best = link_target(checkpoints, LATEST), link_target(checkpoints, BEST)
    found: list[CheckpointInfo] = []
    ends: set[int] = set()
    for folder in folders:
        match = _STEP_FOLDER.fullmatch(folder.name)
        if not match and folder.name != FINAL:
            continue
        if match and match[1] == _THEIRS and not (folder / MANIFEST).exists():
            continue
        manifest = read_manifest(folder)
        facts = manifest.facts if manifest else {}
        step = manifest.step if manifest else int(match[2]) if match else 0
        ends |= _steps(facts.get(STAGE_ENDS))
        found.append(
            CheckpointInfo(
                path=folder,
                step=step,
                bytes=manifest.total_bytes if manifest else 0,
                created_at=manifest.created_at if manifest else 0.0,
                whole=manifest is not None and sizes_match(folder, manifest),
                loss=_number(facts.get("loss")),
                val_loss=_number(facts.get("val_loss")),
                val_reward=_number(facts.get("val_reward")),
                is_latest=folder.name == latest,
                is_best=folder.name == best,
                packed=bool(manifest and manifest.packed),
            )
        )
    told = [replace(c, ends_stage=c.step in ends and c.name != FINAL) for c in found]
    return sorted(told, key=lambda c: (c.step, c.name == FINAL))


def _steps(value: object) -> frozenset[int]:
    return (
        frozenset(step for step in value if type(step) is int)
        if isinstance(value, list)
        else frozenset()
    )


def _number(value: object) -> float | None:
    return float(value) if is_number(value) else None  # type: ignore[arg-type]


def link_target(checkpoints: Path, link: str) -> str | None:
    """The folder name that `latest` or `best` points at, or None."""
    try:
        return (checkpoints / link).readlink().name
    except OSError:
        return None


def set_link(checkpoints: Path, link: str, folder: Path) -> None:
    """Point `latest` or `best` at a sibling folder."""
    replace_link(checkpoints / link, folder.name)


def newest_sound(checkpoints: Path) -> tuple[CheckpointInfo | None, list[str]]:
    """The newest checkpoint whose checksums hold, and what was wrong with the newer ones.

    Links are hints, so they are not consulted: the folders themselves are.
    """
    problems: list[str] = []
    for info in reversed(list_checkpoints(checkpoints)):
        found = verify_folder(info.path)
        if not found:
            return info, problems
        problems += found
    return None, problems


@dataclass(frozen=True)
class SetAside:
    """A damaged checkpoint that was renamed, and what is wrong with it."""

    name: str
    moved_to: str
    message: str


def set_aside_damaged(checkpoints: Path, sound: Path) -> list[SetAside]:
    """Rename the damaged checkpoints newer than `sound` to `step_N.corrupt`; links to them go.

    Only what is certainly damaged: one that cannot be read now may be whole tomorrow. The caller
    holds the run's lock, and `sound` is one whose checksums hold.
    """
    listed = list_checkpoints(checkpoints)
    places = [info.path.resolve() for info in listed]
    # A run may begin from another's checkpoint: none of its own is newer than that.
    own = sound.resolve() in places
    newer = listed[places.index(sound.resolve()) + 1 :] if own else []
    moved: list[SetAside] = []
    for info in newer:
        problems = find_problems(info.path)
        if not problems or not all(problem.damaged for problem in problems):
            continue
        target = _free_name(checkpoints, f"{info.name}.corrupt")
        try:
            info.path.rename(target)
        except OSError:
            continue  # it is passed over all the same
        moved.append(SetAside(info.name, target.name, problems[0].message))
    for link in (LATEST, BEST):
        if link_target(checkpoints, link) in {m.name for m in moved}:
            with contextlib.suppress(OSError):
                (checkpoints / link).unlink()
    if moved:
        fsync_directory(checkpoints)
    return moved


def _free_name(folder: Path, name: str) -> Path:
    count = 1
    while os.path.lexists(path := folder / (name if count == 1 else f"{name}-{count}")):
        count += 1
    return path


def list_set_aside(checkpoints: Path) -> tuple[list[Path], list[Path]]:
    """The folders that are no checkpoints any more: the corrupt ones, the superseded ones."""
    try:
        folders = sorted(p for p in checkpoints.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:
        return [], []
    return (
        [p for p in folders if _CORRUPT.fullmatch(p.name)],
        [p for p in folders if _SUPERSEDED.fullmatch(p.name)],
    )


# -- use ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_use(folder: Path, patience: float = USE_WAIT) -> Iterator[None]:
    """Mark the checkpoint as read by this process, so that no other removes or compresses it.

    A shared lock on its manifest, which dies with the process. Without a manifest, or without
    flock, nothing is marked. Raises RunError when it is still being removed or compressed after
    `patience` seconds.
    """
    deadline = time.monotonic() + patience
    fd = -1
    try:
        while (fd := _lock_manifest(folder, fcntl.LOCK_SH)) == _BUSY:
            if time.monotonic() > deadline:
                raise RunError(f"{folder} is being removed or compressed by another process.")
            time.sleep(_TRY_SECONDS)
        yield
    finally:
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Whether nobody uses the checkpoint; nobody begins to while this is entered.

    For the holder of the run's lock, just before the checkpoint is moved or exchanged.
    """
    fd = _BUSY
    try:
        # Whoever lists checkpoints tries this lock for an instant, so one refusal proves nothing.
        for _ in range(_CLAIM_TRIES):
            fd = _lock_manifest(folder, fcntl.LOCK_EX)
            if fd != _BUSY:
                break
            time.sleep(_TRY_SECONDS)
        yield fd != _BUSY
    finally:
        if fd >= 0:
            os.close(fd)


def is_in_use(folder: Path) -> bool:
    """Whether some process reads the checkpoint now."""
    with claimed(folder) as free:
        return not free


_NO_LOCK, _BUSY = -1, -2


def _lock_manifest(folder: Path, kind: int) -> int:
    """A descriptor that holds the lock, _NO_LOCK where there is none to take, or _BUSY."""
    path = folder / MANIFEST
    while True:
        try:
            fd = _open_to_lock(path, kind)
        except OSError:
            return _NO_LOCK
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            # Packing puts a new manifest in the place of the old one, whose lock says nothing.
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except BlockingIOError:
            os.close(fd)
            return _BUSY
        except FileNotFoundError:
            os.close(fd)
            return _NO_LOCK
        except OSError as error:
            os.close(fd)
            if error.errno in _NO_FLOCK:
                return _NO_LOCK
            raise
        os.close(fd)


def _open_to_lock(path: Path, kind: int) -> int:
    if kind == fcntl.LOCK_EX:  # which NFS gives only to who may write
        with contextlib.suppress(PermissionError):
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # no pipe stops us


# -- removal -----------------------------------------------------------------------------------


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint so that a kill in between leaves a leftover, never half a checkpoint."""
    doomed = folder.with_name(f".removing-{folder.name}")
    if doomed.exists():
        shutil.rmtree(doomed)
    folder.rename(doomed)
    fsync_directory(folder.parent)
    shutil.rmtree(doomed)


def clean_leftovers(checkpoints: Path) -> list[str]:
    """Remove what interrupted saves and removals left; returns the names.

    Only the holder of the run's lock may call it: a live save looks the same.
    """
    removed: list[str] = []
    with contextlib.suppress(OSError):
        for path in sorted(checkpoints.iterdir()):
            if path.name.startswith((".tmp-", ".removing-")) and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path.name)
    for info in list_checkpoints(checkpoints):
        removed += [f"{info.name}/{name}" for name in remove_counterparts(info.path)]
    return removed + remove_temporaries(checkpoints)


def remove_counterparts(folder: Path) -> list[str]:
    """Remove what a killed packing or unpacking left in a checkpoint; returns the names.

    Of a file and its packed form only one is in the manifest: the other was on its way in or out.
    """
    manifest = read_manifest(folder)
    if manifest is None or not sizes_match(folder, manifest):
        return []
    removed: list[str] = []
    for name in manifest.files:
        other = name.removesuffix(PACKED) if name.endswith(PACKED) else name + PACKED
        if other not in manifest.files and (folder / other).is_file():
            with contextlib.suppress(OSError):
                (folder / other).unlink()
                removed.append(other)
    return removed


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` looks like a checkpoint: it has weights and a manifest or a config."""
    return is_adapter(folder) or (
        has_file(folder, WEIGHTS)
        and ((folder / MANIFEST).is_file() or (folder / "config.json").is_file())
    )


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds adapters for a model that is elsewhere, and no whole model."""
    return (
        (folder / ADAPTER_CONFIG).is_file()
        and has_file(folder, ADAPTER)
        and not has_file(folder, WEIGHTS)
    )


def weights_name(folder: Path) -> str:
    """The name of the file with the checkpoint's weights."""
    return ADAPTER if is_adapter(folder) else WEIGHTS


def has_file(folder: Path, name: str) -> bool:
    """Whether the checkpoint has that file, as it is or packed."""
    return (folder / name).is_file() or (folder / (name + PACKED)).is_file()
