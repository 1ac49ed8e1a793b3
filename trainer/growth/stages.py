"""The models that a run goes through, from the smallest to the one it is about. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import UserError
from shared.text import plural
from trainer.config.model import ModelConfig
from trainer.config.schema import Config, GrowthConfig, StageConfig
from trainer.growth.sizes import SIZES, all_sizes
from trainer.model.dimensions import complete
from trainer.optim.schedule import decay_start

LAST = "full"  # the phase of the model that a run without names ends with


@dataclass(frozen=True)
class Stage:
    """A model, the phase it trains in, and the step after which it grows; None for the last."""

    model: ModelConfig
    phase: str
    last_step: int | None


def stage_models(config: Config) -> list[ModelConfig]:
    """The models of all stages, their sizes written out."""
    if not config.growth.stages:
        return [config.model]
    return [*(_model(config.model, stage) for stage in config.growth.stages), config.model]


def stages_of(config: Config, max_steps: int) -> tuple[Stage, ...]:
    """The stages of a run of `max_steps`. Raises UserError where growth would not be at the peak of
    the learning rate, or two stages would be one."""
    if not config.growth.stages:
        return (Stage(config.model, LAST, None),)
    found = []
    before = config.optim.warmup_steps
    last = decay_start(config.optim, max_steps)
    for stage, model in zip(config.growth.stages, stage_models(config), strict=False):
        step = round(stage.until * max_steps)
        if not before < step <= last or step >= max_steps:
            raise UserError(
                f"growth.stages until {stage.until:g} is step {step} of {max_steps}, but a model "
                f"can grow from step {before + 1} to {min(last, max_steps - 1)}: behind the warmup "
                "and the stage before it, and before the learning rate decays "
                "(optim.schedule, optim.decay_start)."
            )
        before = step
        phase = stage.name or plural(model.num_layers, "layer").replace(" ", "-")
        found.append(Stage(model, phase, step))
    names = {stage.phase for stage in found}
    name = config.model.name if config.model.name not in names else LAST
    return (*found, Stage(config.model, name if config.growth.stages[0].name else LAST, None))


def without_growth(config: Config, model: ModelConfig) -> Config:
    """The configuration of a run with that model alone."""
    return config.model_copy(update={"model": model, "growth": GrowthConfig()})


def _model(last: ModelConfig, stage: StageConfig) -> ModelConfig:
    sizes = {key: getattr(stage, key, None) for key in SIZES}
    given = {key: value for key, value in sizes.items() if value is not None}
    whole = complete(last) if last.vocab_size is not None else last
    return whole.model_copy(update=all_sizes(whole, given))
