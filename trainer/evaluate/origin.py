"""Where an opened model comes from: its checkpoint, which stores evaluations, and its run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.checkpoints.manifest import read_manifest
from shared.hub.names import name_of_cached
from shared.hub.source import find_source, read_configuration
from shared.json_text import Json
from shared.run.directory import RunDirectory
from shared.text import one_line


@dataclass(frozen=True)
class Origin:
    """`checkpoint` and `configuration` are None for a model that is not a checkpoint of ours."""

    path: Path
    checkpoint: Path | None = None
    run: RunDirectory | None = None
    step: int | None = None
    configuration: Json | None = None

    @property
    def name(self) -> str:
        """The name for a person: `step_500 of tour_20260101_120000`."""
        cached = name_of_cached(self.path)
        if cached is not None:
            return cached.short
        of_run = f" of {self.run.run_id}" if self.run else ""
        return one_line(f"{self.path.name}{of_run}", 120)

    @property
    def seq_len(self) -> int | None:
        """The sequence length it was trained and validated with, in tokens."""
        settings = self.configuration or {}
        train, model = settings.get("train"), settings.get("model")
        chosen = train.get("seq_len") if isinstance(train, dict) else None
        longest = model.get("max_seq_len") if isinstance(model, dict) else None
        if chosen is None and type(longest) is int:
            chosen = max(1, longest // 2)
        return chosen if type(chosen) is int and chosen > 0 else None


def find_origin(path: Path) -> Origin:
    """The origin of an opened model's folder or file."""
    manifest = read_manifest(path) if path.is_dir() else None
    if manifest is None:
        return Origin(path)
    source = find_source(path)
    return Origin(path, source.folder, source.run, manifest.step, read_configuration(source))
