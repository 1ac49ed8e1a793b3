"""Which checkpoints the adapters of other runs need: they name their base and do not contain it."""

from __future__ import annotations

from pathlib import Path

from shared.checkpoints.catalogue import BASE_RECORD
from shared.checkpoints.owner import owner_of
from shared.files import read_json
from shared.run.directory import RunDirectory, discover_runs


def adapters_by_base(runs_dir: Path) -> dict[Path, list[str]]:
    """The ids of the runs in `runs_dir` that have adapters, by the folder of their base."""
    found: dict[Path, list[str]] = {}
    try:
        runs = discover_runs(runs_dir)
    except OSError:
        return found
    for run in runs:
        for base in _bases_of(run):
            found.setdefault(Path(base), []).append(run.run_id)
    return found


def _bases_of(run: RunDirectory) -> set[str]:
    """The paths that the adapters of a run name."""
    try:
        records = [read_json(path) or {} for path in run.checkpoints.glob(f"*/{BASE_RECORD}")]
    except OSError:  # the run is being deleted
        return set()
    return {path for record in records if isinstance(path := record.get("path"), str)}


def bases_in(checkpoints: Path) -> dict[str, list[str]]:
    """The checkpoints of a run that are bases, by name, with the ids of the runs that need them.

    `checkpoints` must be resolved. Only runs beside this one are known.
    """
    run = owner_of(checkpoints)
    if run is None and checkpoints.name == "checkpoints":
        run = RunDirectory(checkpoints.parent)
    if run is None:
        return {}
    by_base = adapters_by_base(run.path.parent)
    return {base.name: ids for base, ids in by_base.items() if base.parent == checkpoints}
