"""`trainer pipeline --dry-run`: what each stage would do, how large and how long it would be."""

from __future__ import annotations

from pathlib import Path

from trainer.pipeline.config import PipelineConfig
from trainer.pipeline.records import StageRecord
from trainer.pipeline.stages.interface import Context
from trainer.pipeline.stages.registry import STAGES
from trainer.pipeline.start import check, place_of


def estimate(config: PipelineConfig, runs_dir: Path) -> list[str]:
    """The plan as lines for a person. Raises UserError."""
    place = place_of(config, runs_dir)
    check(config, place)
    done: dict[str, StageRecord] = {}
    context = Context(config, place, done)
    lines = [f"pipeline {config.name}: {len(STAGES)} stages, outputs in {place.outputs}"]
    for number, stage in enumerate(STAGES):
        skipped = stage.skipped(context)
        lines.append(
            f"PHASE {number}: {stage.title}" + (f", skipped: {skipped}" if skipped else "")
        )
    return lines
