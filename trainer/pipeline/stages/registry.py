"""The stages of a pipeline, in order. One that is added costs its module and a line here."""

from __future__ import annotations

from collections.abc import Mapping

from trainer.config.section import Section
from trainer.pipeline.stages.evaluation import Evaluation
from trainer.pipeline.stages.export import Export
from trainer.pipeline.stages.interface import Stage
from trainer.pipeline.stages.prepare import Prepare
from trainer.pipeline.stages.rl import Rl
from trainer.pipeline.stages.smoke import Smoke
from trainer.pipeline.stages.supervised import Supervised

STAGES: tuple[Stage, ...] = (
    Prepare(),
    Supervised(),
    Rl(),
    Evaluation(),
    Export(),
    Smoke(),
)


def sections() -> Mapping[str, type[Section]]:
    """The section of each stage by its name."""
    return {stage.name: stage.section for stage in STAGES}
