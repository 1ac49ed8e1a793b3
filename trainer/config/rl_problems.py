"""What cannot be with prompts whose answers are judged, each as a clause."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainer.config.schema import Config


def rl_problems(config: Config) -> list[str]:
    """Of a configuration whose data.dataset is prompts."""
    rl, per_step = config.rl, config.sequences_per_step
    problems = [
        f"{key} does not work with data.dataset prompts; leave it out"
        for key, idle in (
            ("train.collider", config.train.collider),
            ("model.mtp_heads", config.model.mtp_heads),
            ("hybrid.predictor", config.hybrid.predictor),
            ("growth.stages", config.growth.stages),
            ("data.sources", config.data.sources),
            ("stability.skip_spikes", config.stability.skip_spikes),
        )
        if idle
    ]
    if rl.answers % per_step:
        problems.append(
            f"train.batch_size {config.train.batch_size} x train.accumulation_steps "
            f"{config.train.accumulation_steps} = {per_step} answers per step do not divide the "
            f"{rl.answers} of an iteration (rl.prompts_per_iteration {rl.prompts_per_iteration} x "
            f"rl.group_size {rl.group_size})"
        )
    return problems
