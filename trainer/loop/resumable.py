"""Whether there is anything left to resume, and with the same model. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from shared.checkpoints.catalogue import META
from shared.errors import UserError
from shared.files import read_json
from shared.text import plural
from trainer.checkpoint.progress import Progress
from trainer.config.model import ModelConfig
from trainer.config.schema import Config
from trainer.loop.patience import check_patience_left
from trainer.model.differences import differences, tell


def check_steps_left(max_steps: int, progress: Progress, config: Config | None = None) -> None:
    """Raise UserError when the last step has been made; `config` is the run's."""
    if progress.step >= max_steps and config and config.data.dataset == "prompts":
        raise UserError(
            f"The run already finished its {plural(config.rl.iterations, 'iteration')}; "
            "give --iterations with more to continue."
        )
    if progress.step >= max_steps:
        raise UserError(
            f"The run already finished its {plural(max_steps, 'step')}; "
            f"give --max-steps with more than {progress.step} to continue."
        )


def check_time_left(config: Config, progress: Progress) -> None:
    """Raise UserError when the run has used up its hours or its patience."""
    hours = config.train.max_hours
    if hours is not None and progress.seconds >= 3600 * hours:
        raise UserError(
            f"The run has used up its {hours:g} {'hour' if hours == 1 else 'hours'}; "
            f"give --max-hours with more than {progress.seconds / 3600:.2f} to continue."
        )
    check_patience_left(config, progress)


def check_recorded_model(models: Sequence[ModelConfig], folder: Path) -> None:
    """Raise UserError naming every difference from the last of `models` when meta.json records
    another model than those.

    It may record none: config.json decides, for which torch is needed.
    """
    recorded = read_json(folder / META)
    for key in ("config", "model"):
        recorded = recorded.get(key) if isinstance(recorded, dict) else None
    try:
        theirs = ModelConfig.model_validate(recorded)
    except ValidationError:
        return
    if all(differences(theirs, model) for model in models):
        check_same_model(theirs, models[-1], folder)


def check_same_model(theirs: ModelConfig, ours: ModelConfig, folder: Path) -> None:
    """Raise UserError naming every difference between a checkpoint's model and the configured."""
    found = differences(theirs, ours)
    if found:
        raise UserError(
            f"The checkpoint {folder.name} holds another model: {tell(found)}; resume with the "
            "model it was trained with."
        )
