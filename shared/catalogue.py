"""The checkpoints of a run: which there are, which are whole, which is latest and best."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from shared.files import fsync_directory, remove_temporaries, replace_link
from shared.manifest import MANIFEST, read_manifest, sizes_match, verify_folder
from shared.records import is_number

_STEP_FOLDER = re.compile(r"step_(\d{1,16})")
FINAL = "final"
LATEST = "latest"
BEST = "best"


@dataclass(frozen=True)
class CheckpointInfo:
    """One checkpoint as its manifest tells it. `whole`: the manifest and all sizes are right."""

    path: Path
    step: int
    bytes: int
    created_at: float
    whole: bool
    loss: float | None
    val_loss: float | None
    is_latest: bool = False
    is_best: bool = False

    @property
    def name(self) -> str:
        """The folder's name: `step_500`, `final`."""
        return self.path.name


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
    for folder in folders:
        match = _STEP_FOLDER.fullmatch(folder.name)
        if not match and folder.name != FINAL:
            continue
        manifest = read_manifest(folder)
        facts = manifest.facts if manifest else {}
        step = manifest.step if manifest else int(match.group(1)) if match else 0
        found.append(
            CheckpointInfo(
                path=folder,
                step=step,
                bytes=manifest.total_bytes if manifest else 0,
                created_at=manifest.created_at if manifest else 0.0,
                whole=manifest is not None and sizes_match(folder, manifest),
                loss=_number(facts.get("loss")),
                val_loss=_number(facts.get("val_loss")),
                is_latest=folder.name == latest,
                is_best=folder.name == best,
            )
        )
    return sorted(found, key=lambda c: (c.step, c.name == FINAL))


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
    return removed + remove_temporaries(checkpoints)


def is_checkpoint(folder: Path) -> bool:
    """Whether `folder` looks like a checkpoint: it has weights and a manifest or a config."""
    return (folder / "model.safetensors").is_file() and (
        (folder / MANIFEST).is_file() or (folder / "config.json").is_file()
    )
