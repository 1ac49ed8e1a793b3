"""Which checkpoints other runs need: the bases of adapters, which name them and do not contain
them, the references of preference runs, and what waiting runs will start from.

The runs beside a run are looked through. A run elsewhere leaves a note in the run that it needs,
which only says where to look.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.checkpoints.catalogue import BASE_RECORD, WEIGHTS
from shared.checkpoints.manifest import read_manifest
from shared.checkpoints.owner import owner_of
from shared.files import read_bytes, read_json, replace_file
from shared.run.config import flat_config
from shared.run.directory import RunDirectory, discover_runs
from shared.run.records import ACTIVE_STATUSES, RunState

#: In a run: notes with the paths of runs in other folders that need its checkpoints.
CLAIMS = ".needed_by"
_MAX_CLAIMS = 10_000
_MAX_CONFIG = 1 << 20
_NAMED = 3  # runs in a reason
_NESTED = 8  # adapters that began from adapters

ADAPTERS = "the base of the adapters in"
REFERENCE = "the reference of"
START = "the start of"


@dataclass(frozen=True)
class Need:
    """A run needs the checkpoint in the folder `base`; `why` is one of the words above.

    `digest` is that of its weights as the run knows it, empty if it does not.
    """

    run: RunDirectory
    base: Path
    why: str
    digest: str = ""


def needs_in(runs: Iterable[RunDirectory]) -> Iterator[Need]:
    """What these runs need of other runs and folders."""
    for run in runs:
        yield from _adapters_of(run)
        begun = _begun_from(run)
        if begun is not None:
            yield begun


def needs_of(run: RunDirectory) -> list[Need]:
    """What runs beside `run`, and those that left a note in it, need of its checkpoints."""
    checkpoints = run.checkpoints.resolve()
    others = (*_beside(run), *claimants(run))
    return [need for need in needs_in(others) if need.base.parent == checkpoints]


def bases_in(checkpoints: Path) -> dict[str, list[Need]]:
    """The checkpoints of a run that others need, by name; `checkpoints` must be resolved.

    A base that was set aside, or replaced by another checkpoint of its step, is found by its
    digest.
    """
    run = _run_of(checkpoints)
    found: dict[str, list[Need]] = {}
    for need in needs_of(run) if run is not None else ():
        for name in _names_of(need):
            found.setdefault(name, []).append(need)
    return found


def told(needs: Iterable[Need]) -> str:
    """`the base of the adapters in a and b, the start of c`, as a reason to keep a checkpoint."""
    by_reason: dict[str, list[str]] = {}
    for need in needs:
        runs = by_reason.setdefault(need.why, [])
        if need.run.run_id not in runs:
            runs.append(need.run.run_id)
    return ", ".join(f"{why} {listed(runs)}" for why, runs in by_reason.items())


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and 98 more`: a sweep may have many runs."""
    shown = names if len(names) <= _NAMED else names[: _NAMED - 1]
    more = [f"{len(names) - len(shown):,} more"] if len(shown) < len(names) else []
    *first, last = [*shown, *more]
    return f"{', '.join(first)} and {last}" if first else last


def set_aside(base: Path) -> list[Path]:
    """Where the checkpoint that was at `base` may be, since a resume from an older one set it
    aside: the newest first.
    """
    pattern = re.compile(rf"superseded_(\d+)_{re.escape(base.name)}")
    found: list[tuple[int, Path]] = []
    with contextlib.suppress(OSError):
        found = [
            (int(match[1]), path)
            for path in base.parent.iterdir()
            if (match := pattern.fullmatch(path.name)) and path.is_dir()
        ]
    return [path for _, path in sorted(found, reverse=True)]


def _names_of(need: Need) -> list[str]:
    """The folders that may be what is needed; only one where its digest tells."""
    places = [need.base, *set_aside(need.base)]
    same = [place for place in places if need.digest and _digest(place) == need.digest]
    return [place.name for place in same[:1] or places]


def _digest(folder: Path) -> str:
    """The digest of a checkpoint's weights by its manifest, as adapters record it; empty if it has
    none."""
    manifest = read_manifest(folder)
    if manifest is None:
        return ""
    _, digest = manifest.packed.get(WEIGHTS) or manifest.files.get(WEIGHTS) or (0, "")
    return hashlib.sha256(f"{WEIGHTS} {digest}\n".encode()).hexdigest() if digest else ""


def _adapters_of(run: RunDirectory) -> Iterator[Need]:
    """The bases that the adapters of a run name."""
    seen: set[str] = set()
    try:
        records = [read_json(path) or {} for path in run.checkpoints.glob(f"*/{BASE_RECORD}")]
    except OSError:  # the run is being deleted
        return
    for record in records:
        path, digest = record.get("path"), record.get("sha256")
        if isinstance(path, str) and "\0" not in path and path not in seen:
            seen.add(path)
            yield Need(run, Path(path), ADAPTERS, digest if isinstance(digest, str) else "")


def _begun_from(run: RunDirectory) -> Need | None:
    """The checkpoint that a run is yet to start from, or that is its reference until its end."""
    config = _config_with_begin(run)
    begun = config.get("checkpoint.begin_from", "")
    if not begun.startswith("/") or "\0" in begun:
        return None
    state = run.read_state() or RunState()
    if state.status == "completed":
        return None
    base = Path(begun)
    with contextlib.suppress(OSError, RuntimeError):  # a loop of links
        base = base.resolve()
    if config.get("data.dataset") == "pairs":
        return Need(run, base, REFERENCE)
    waits = state.status in ACTIVE_STATUSES | {"queued", "preempted"}
    return Need(run, base, START) if waits and state.latest_checkpoint is None else None


def _config_with_begin(run: RunDirectory) -> dict[str, str]:
    """The configuration of a run; empty where it begins from nothing, which needs no parsing."""
    try:
        data = read_bytes(run.config_path, _MAX_CONFIG)
    except (OSError, ValueError):
        return {}
    if b"begin_from" not in data or b"begin_from: null" in data:
        return {}
    return flat_config(data.decode("utf-8", "replace"))


# -- runs in other folders ---------------------------------------------------------------------


def claim_bases(run: RunDirectory) -> None:
    """Leave a note in every run of another folder whose checkpoint `run` needs.

    Does nothing where that cannot be written: whoever owns it decides about it.
    """
    begun = _config_with_begin(run).get("checkpoint.begin_from", "")
    for _ in range(_NESTED):
        if not begun.startswith("/") or "\0" in begun:
            return
        with contextlib.suppress(OSError, RuntimeError):
            _claim(Path(begun).resolve(), run)
        # Adapters that began from adapters need the base of those.
        record = read_json(Path(begun) / BASE_RECORD) or {}
        begun = path if isinstance(path := record.get("path"), str) else ""


def _claim(base: Path, run: RunDirectory) -> None:
    owner = _run_of(base.parent)
    here = run.path.resolve()
    if owner is None or not owner.path.is_dir() or owner.path.resolve().parent == here.parent:
        return
    folder = owner.path / CLAIMS
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(os.fsencode(here)).hexdigest()[:32]
    replace_file(folder / name, os.fsencode(here), durable=False)


def claimants(run: RunDirectory) -> list[RunDirectory]:
    """The runs of other folders that left a note in `run`, as long as they are there."""
    found: list[RunDirectory] = []
    try:
        notes = sorted((run.path / CLAIMS).iterdir())[:_MAX_CLAIMS]
    except OSError:
        return found
    for note in notes:
        with contextlib.suppress(OSError, ValueError):
            path = Path(os.fsdecode(read_bytes(note, 4096)))
            if path.is_absolute() and path.is_dir():
                found.append(RunDirectory(path))
    return found


def _beside(run: RunDirectory) -> list[RunDirectory]:
    try:
        return discover_runs(run.path.parent)
    except OSError:
        return []


def _run_of(checkpoints: Path) -> RunDirectory | None:
    """The run whose checkpoints are in this folder."""
    run = owner_of(checkpoints)
    if run is None and checkpoints.name == "checkpoints":
        run = RunDirectory(checkpoints.parent)
    return run
