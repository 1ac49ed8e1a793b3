"""Packing cold checkpoints in place, and unpacking them again.

For the holder of the run's lock. Whenever a process is killed, the manifest describes files that
are all there. The format of a packed file is in `shared.checkpoints.packed_file`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.checkpoints.catalogue import (
    FINAL,
    CheckpointInfo,
    claimed,
    in_use,
    is_in_use,
    list_checkpoints,
    remove_counterparts,
)
from shared.checkpoints.manifest import (
    MANIFEST,
    PACKED,
    Advance,
    FileEntry,
    Manifest,
    file_sha256,
    find_problems,
    read_manifest,
    unseen,
    verify_folder,
    write_manifest,
)
from shared.checkpoints.packed_file import LEVEL, TENSORS, pack_file, unpack_file
from shared.errors import RunError, UserError
from shared.files import fsync_directory, fsync_file
from shared.text import format_bytes

_MIN_GAIN = 0.02  # of a file's size, below which it is left as it is


@dataclass(frozen=True)
class Packed:
    """What packing or unpacking a checkpoint came to, in bytes of all its files."""

    name: str
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class Left:
    """A checkpoint that is not packed (or unpacked), and why; `refused` if it was asked for."""

    name: str
    reason: str
    refused: bool = False


def choose(
    checkpoints: Path, names: Collection[str] = (), *, unpack: bool = False
) -> tuple[list[CheckpointInfo], list[Left]]:
    """What to pack or unpack: those named, by default all packed ones, or all cold plain ones."""
    chosen: list[CheckpointInfo] = []
    left: list[Left] = []
    for info in list_checkpoints(checkpoints):
        asked = info.name in names
        if (names and not asked) or (not asked and info.packed != unpack):
            continue
        reason = ""
        if info.packed != unpack:
            left.append(
                Left(info.name, "it is not compressed" if unpack else "it is already compressed")
            )
            continue
        if not info.whole:
            reason = "it is damaged"
        elif is_in_use(info.path):
            reason = "it is in use by another process"
        elif not unpack and not asked and info.is_latest:
            reason = "it is the latest; name it to compress it anyway"
        elif not unpack and not asked and info.name == FINAL:
            reason = "other programs load final directly; name it to compress it anyway"
        elif not unpack and info.name.startswith("checkpoint-"):
            reason = "transformers' Trainer could not resume from it any more"
        if reason:
            left.append(Left(info.name, reason, refused=asked))
        else:
            chosen.append(info)
    for info in list(chosen):
        going = {c.name for c in chosen}
        twins = [t for t in _twins(info, list_checkpoints(checkpoints)) if t not in going]
        if twins and not unpack:
            reason = f"it shares its files with {twins[0]}, so this saves nothing; name both"
            left.append(Left(info.name, reason, refused=info.name in names))
            chosen.remove(info)
    return chosen, left


def _twins(info: CheckpointInfo, others: Iterable[CheckpointInfo]) -> list[str]:
    """The names of those whose tensors are the same files on the disk."""

    def inodes(folder: Path) -> set[tuple[int, int]]:
        found = [path.stat() for path in folder.glob(f"*{TENSORS}")]
        return {(status.st_dev, status.st_ino) for status in found if status.st_nlink > 1}

    own = inodes(info.path)
    return [o.name for o in others if own and o.name != info.name and own & inodes(o.path)]


def work_bytes(info: CheckpointInfo) -> int:
    """How many bytes packing or unpacking it tells of to `advance`."""
    manifest = read_manifest(info.path)
    if manifest is not None and manifest.packed:
        return info.bytes + sum(size for size, _ in manifest.packed.values())
    return 3 * info.bytes  # read, packed, unpacked


def pack_checkpoint(
    folder: Path,
    *,
    level: int = LEVEL,
    threads: int | None = None,
    advance: Advance = unseen,
) -> Packed:
    """Pack the tensors of a checkpoint in place. For the holder of the run's lock.

    All is written and read back beside it first. Then the packed files join the others, the new
    manifest replaces the old in one rename, and the originals go: whenever the process is killed
    the manifest describes files that are all there. What packs badly stays as it is; with nothing
    to win the checkpoint is left alone.

    Raises UserError when it is packed already or in use, RunError when it is damaged or the disk
    has no room, OSError.
    """
    folder = folder.resolve()
    with _rebuilding(folder, advance) as (manifest, building):
        if manifest.packed:
            raise UserError(f"{folder.name} is already compressed.")
        _check_space(folder.parent, manifest.total_bytes)
        packed: dict[str, FileEntry] = {}
        for name, entry in manifest.files.items():
            if not name.endswith(TENSORS):
                continue  # small, and read by people and other programs
            target = building / (name + PACKED)
            if not _link_twin(folder, target, entry):
                pack_file(folder / name, target, level=level, threads=threads, advance=advance)
                unpack_file(target, None, entry, threads=threads, advance=advance)
            if target.stat().st_size > (1 - _MIN_GAIN) * entry[0]:
                target.unlink()
                continue
            target.chmod((folder / name).stat().st_mode)
            packed[name] = entry
        if not packed:
            return Packed(folder.name, manifest.total_bytes, manifest.total_bytes)
        return _exchange(folder, building, manifest, packed)


def unpack_checkpoint(
    folder: Path, *, threads: int | None = None, advance: Advance = unseen
) -> Packed:
    """The other way: the original files again, each checked against its own checksum.

    Raises UserError when it is not packed or in use, RunError, OSError.
    """
    folder = folder.resolve()
    with _rebuilding(folder, advance) as (manifest, building):
        if not manifest.packed:
            raise UserError(f"{folder.name} is not compressed.")
        _check_space(folder.parent, sum(size for size, _ in manifest.packed.values()))
        for name, entry in manifest.packed.items():
            source, target = folder / (name + PACKED), building / name
            if not _link_twin(folder, target, entry):
                unpack_file(source, target, entry, threads=threads, advance=advance)
                fsync_file(target)
                target.chmod(source.stat().st_mode)
        return _exchange(folder, building, manifest, {})


@contextlib.contextmanager
def _rebuilding(folder: Path, advance: Advance) -> Iterator[tuple[Manifest, Path]]:
    """The manifest of a sound checkpoint, and a folder beside it to build its other form in."""
    building = folder.parent / f".tmp-pack-{folder.name}-{os.getpid()}"
    with in_use(folder):
        remove_counterparts(folder)
        problems = find_problems(folder, advance)
        manifest = read_manifest(folder)
        if problems or manifest is None:
            told = problems[0].message if problems else f"{folder.name} has no manifest"
            raise RunError(f"{told}; a damaged checkpoint is not changed.")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    try:
        yield manifest, building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _exchange(folder: Path, building: Path, old: Manifest, packed: dict[str, FileEntry]) -> Packed:
    """Put what was built in the place of what is there; `packed` is what shall be packed then."""
    arriving = sorted(p.name for p in building.iterdir())
    leaving = [n.removesuffix(PACKED) if n.endswith(PACKED) else n + PACKED for n in arriving]
    for name in old.files.keys() - set(leaving):
        try:
            os.link(folder / name, building / name)
        except OSError:  # a filesystem without hard links
            shutil.copy2(folder / name, building / name)
            fsync_file(building / name)
    new = write_manifest(building, old.step, old.facts, packed=packed, created_at=old.created_at)
    problems = verify_folder(building)
    if problems:
        raise RunError(f"{folder.name} was not changed: the new files read back wrong.")
    (building / MANIFEST).chmod((folder / MANIFEST).stat().st_mode)
    with claimed(folder) as free:
        if not free:
            raise UserError(f"{folder.name} is in use by another process; it was not changed.")
        for name in arriving:
            (building / name).rename(folder / name)
        fsync_directory(folder)
        (building / MANIFEST).rename(folder / MANIFEST)
        fsync_directory(folder)
        for name in leaving:
            (folder / name).unlink(missing_ok=True)
        fsync_directory(folder)
    return Packed(folder.name, old.total_bytes, new.total_bytes)


def _link_twin(folder: Path, target: Path, entry: FileEntry) -> bool:
    """Make `target` a link to that file of a sibling that has the same: `final` repeats its step.

    `entry` describes the original. A sibling's file that is damaged is not taken.
    """
    name = target.name.removesuffix(PACKED)
    for sibling in list_checkpoints(folder.parent):
        manifest = read_manifest(sibling.path) if sibling.path != folder else None
        if manifest is None or target.name not in manifest.files:
            continue
        is_packed = target.name != name
        if (manifest.packed if is_packed else manifest.files).get(name) != entry:
            continue
        with contextlib.suppress(OSError, RunError):
            os.link(sibling.path / target.name, target)
            if is_packed:
                unpack_file(target, None, entry)
                return True
            if file_sha256(target) == entry[1]:
                return True
        target.unlink(missing_ok=True)
    return False


def _check_space(folder: Path, needed: int) -> None:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if free < needed:
        raise RunError(
            f"{folder} has {format_bytes(free)} free, but {format_bytes(needed)} are needed while "
            "both forms exist; prune first."
        )
