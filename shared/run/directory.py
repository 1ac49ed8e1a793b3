"""The paths of a run directory, and how runs are created and found."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError
from shared.files import read_json
from shared.run.records import RunState
from shared.text import one_line

NAME_LIMIT = 100


@dataclass(frozen=True)
class RunDirectory:
    """The paths inside `runs/<run_id>/`. Caches nothing: every read goes to the disk."""

    path: Path

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def state_path(self) -> Path:
        """The current state, replaced atomically."""
        return self.path / "run_state.json"

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics_path(self) -> Path:
        """One line per optimizer step."""
        return self.path / "metrics.jsonl"

    @property
    def events_path(self) -> Path:
        """What happened, in order."""
        return self.path / "events.jsonl"

    @property
    def log_path(self) -> Path:
        """What the console shows."""
        return self.path / "train.log"

    @property
    def checkpoints(self) -> Path:
        """The checkpoint folders, or a link to where they are."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Text generated during training."""
        return self.path / "samples"

    @property
    def control(self) -> Path:
        """Requests to the trainer."""
        return self.path / "control"

    @property
    def lock_path(self) -> Path:
        """Locked by the process that owns the run."""
        return self.path / "lock"

    @property
    def heartbeat_path(self) -> Path:
        """The heartbeat, written every second."""
        return self.path / "heartbeat"

    def read_state(self) -> RunState | None:
        """The current state, or None if it is missing or unreadable."""
        value = read_json(self.state_path)
        return None if value is None else RunState.from_json(value)


def slug(name: str) -> str:
    """`name` as a folder name: letters, digits, dot, dash and underscore.

    Raises UserError when no character is left.
    """
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:NAME_LIMIT]
    if not cleaned:
        raise UserError(
            f"The run name {one_line(name)!r} has no usable character; use letters and digits."
        )
    return cleaned


def create_run(runs_dir: Path, name: str, now: float | None = None) -> RunDirectory:
    """Create an empty run directory `{name}_{YYYYmmdd_HHMMSS}`, with a suffix on collision.

    Raises UserError when the runs directory cannot be written.
    """
    stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(now))
    base = f"{slug(name)}_{stamp}"
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
        for suffix in range(1, 10_000):
            path = runs_dir / (base if suffix == 1 else f"{base}_{suffix}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            for folder in ("checkpoints", "samples", "control"):
                (path / folder).mkdir()
            return RunDirectory(path)
    except OSError as error:
        raise UserError(
            f"Cannot create a run in {runs_dir}: {error.strerror}; "
            "choose a writable folder with --runs-dir."
        ) from error
    raise UserError(f"{runs_dir} already holds 10000 runs named {base}; choose another --name.")


def is_run(run: RunDirectory) -> bool:
    """Whether the folder has a state or a metrics file."""
    try:
        return run.state_path.is_file() or run.metrics_path.is_file()
    except OSError:  # no permission, or a name that is too long
        return False


def discover_runs(runs_dir: Path) -> list[RunDirectory]:
    """Every folder below `runs_dir` that has a state or a metrics file, by name.

    Raises OSError when the folder itself cannot be read.
    """
    found: list[RunDirectory] = []
    with os.scandir(runs_dir) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            run = RunDirectory(Path(entry.path))
            if is_run(run):
                found.append(run)
    return sorted(found, key=lambda r: r.run_id)
