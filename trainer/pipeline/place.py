"""Where a pipeline writes: its run, its lock, and a folder for each stage's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """`outputs` holds `NAME-supervised`, `NAME-rl` and `NAME-final`, as the guide has them."""

    name: str
    runs_dir: Path
    outputs: Path

    def folder(self, stage: str) -> Path:
        """The folder of one stage's outputs."""
        return self.outputs / f"{self.name}-{stage}"

    @property
    def final(self) -> Path:
        """The folder of what is handed over."""
        return self.folder("final")

    @property
    def lock_path(self) -> Path:
        """Locked by the pipeline that writes into these folders."""
        return self.outputs / f".{self.name}-pipeline.lock"

    @property
    def note_path(self) -> Path:
        """Names the run of the pipeline."""
        return self.outputs / f".{self.name}-pipeline"

    def run_name(self, stage: str) -> str:
        """The name of a stage's run."""
        return f"{self.name}-{stage}"
