"""What a run will be: its configuration, checked against the data and the machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from shared.text import format_bytes, plural
from trainer.checkpoint.loading import model_config
from trainer.checkpoint.progress import Progress, read_progress
from trainer.config.schema import Config, GrowthConfig
from trainer.distributed.device import Compute, set_up
from trainer.distributed.group import ALONE, Group
from trainer.distributed.speed import Choice
from trainer.growth.plan import check_stages
from trainer.growth.stages import Stage, stages_of, without_growth
from trainer.loop.forecast import length_lines, memory_line, rank_lines
from trainer.loop.memory_plan import (
    check_memory,
    estimated_memory,
    free_memory,
    memory_notes,
    parallel_notes,
    parallel_of,
    with_recomputation,
)
from trainer.loop.mixture import tell_sources
from trainer.loop.patience import check_patience
from trainer.loop.sources import Sources, open_sources, planned_steps
from trainer.model.attention_backends import Attention, attention_of
from trainer.model.differences import differences
from trainer.model.dimensions import dimensions
from trainer.model.estimates import MemoryEstimate
from trainer.model.shapes import count_parameters, describe, trained_shapes
from trainer.optim.kinds import with_table
from trainer.optim.optimizer import Optimizer
from trainer.optim.registry import planned_optimizer
from trainer.rl.engine import MOST_SLOTS


@dataclass(frozen=True)
class Plan:
    """A configuration that has been checked against the data and the machine."""

    config: Config
    compute: Compute
    sources: Sources
    max_steps: int
    #: What the training will take.
    memory: MemoryEstimate
    #: What computes attention in a step.
    attention: Attention
    #: The processes that train together.
    group: Group = ALONE
    #: The models that the run goes through, which of them `config` has, and how they grow.
    stages: tuple[Stage, ...] = ()
    stage: int = 0
    growth: GrowthConfig = field(default_factory=GrowthConfig)

    @property
    def largest(self) -> Config:
        """The configuration with the model of the last stage, which takes the most memory."""
        return without_growth(self.config, self.stages[-1].model)

    def describe(self) -> list[str]:
        """The model, the data, the device, the memory, the parameter groups, a line each."""
        config, compute = self.config, self.compute
        return [
            describe(config),
            *length_lines(self),
            self.sources.description,
            *tell_sources(self.sources, config.seq_len, self.max_steps * config.sequences_per_step),
            f"{compute.describe()}{self.ranks}; {plural(config.tokens_per_step, 'token')} per step",
            *compute.notes,
            str(self.attention),
            memory_line(self),
            *rank_lines(self),
            *self._answering(),
            *parallel_notes(self.largest, compute, self.memory, self.group.world),
            *memory_notes(self.largest, compute, self.memory, self.group.world),
            *optimizer_of(config).describe(config.optim.learning_rate),
        ]

    def _answering(self) -> Iterator[str]:
        config = self.config
        if config.data.dataset != "prompts":
            return
        rl, n = config.rl, dimensions(config.model)
        at_once = min(MOST_SLOTS, math.ceil(rl.answers / self.group.world.size))
        size = 2 * n.L * n.K * n.C * config.seq_len * (2 if self.compute.bf16 else 4)
        compared, reference = rl.kl_beta or rl.kl_interval, 4 * count_parameters(config.model)
        yield (
            f"an iteration: {plural(rl.prompts_per_iteration, 'prompt')} with {rl.group_size} "
            f"answers each, of up to {plural(rl.max_new_tokens, 'token')} at temperature "
            f"{rl.temperature:g}"
            + (f", top-p {rl.top_p:g}" if rl.top_p < 1 else "")
            + f"; {plural(config.steps_per_iteration, 'optimizer step')}"
        )
        yield (
            f"while answering, up to {plural(at_once, 'answer')} at once take "
            f"{format_bytes(at_once * size)} of key-value cache"
            + (f", and the reference {format_bytes(reference)}" if compared else "")
            + ": before the steps, not during them"
        )

    @cached_property
    def sequences_per_step(self) -> int:
        """The configuration's; it is asked for in every step."""
        return self.config.sequences_per_step

    @cached_property
    def tokens_per_step(self) -> int:
        """The configuration's."""
        return self.config.tokens_per_step

    @property
    def ranks(self) -> str:
        """How many processes train, as the end of a line; empty if it is one."""
        return "" if self.group.world.alone else f", {self.group.world.size} ranks"


def optimizer_of(config: Config) -> Optimizer:
    return planned_optimizer(trained_shapes(config.model), config.optim)


def plan(config: Config, checkpoint: Path | None = None, group: Group = ALONE) -> Plan:
    """Open the data and choose the device, without allocating a model.

    `checkpoint` is where training starts; it matters if the steps are computed from epochs. `group`
    are the processes that train together. Raises UserError for anything that would fail later:
    data, device, memory, optimizer.
    """
    config = config.model_copy(update={"optim": with_table(config.optim)})
    world = group.world
    done = read_progress(checkpoint)[0] if checkpoint else Progress()
    compute = set_up(config, world, Choice.from_plain(done.facts.get("compute")))
    parallel = group.decided(lambda: parallel_of(config, compute, world))
    config = config.model_copy(
        update={"train": config.train.model_copy(update={"parallel": parallel})}
    )
    free = group.smallest(free_memory(compute.device, world))
    config = with_recomputation(config, compute, free, world)
    memory = estimated_memory(config, compute, world)
    check_memory(config, compute, memory, world)
    sources = open_sources(config)
    check_patience(config, sources)
    steps = planned_steps(config, sources.train, done)
    attention = attention_of(config, compute.device, bf16=compute.bf16)
    stages = stages_of(config, steps)
    check_stages(config, stages)
    whole = Plan(
        config,
        compute,
        sources,
        steps,
        memory,
        attention,
        group,
        stages,
        growth=config.growth,
    )
    return plan_of_stage(whole, stage_of(whole, checkpoint) if checkpoint else 0)


def plan_of_stage(planned: Plan, stage: int) -> Plan:
    """The plan of a run for one of its stages: its configuration is that of the stage's model."""
    model = planned.stages[stage].model
    return replace(planned, config=without_growth(planned.config, model), stage=stage)


def stage_of(planned: Plan, checkpoint: Path) -> int:
    """The stage that a checkpoint is of, by its model; the last if it is another model's."""
    if len(planned.stages) == 1:
        return 0
    theirs = model_config(checkpoint)
    for number, stage in enumerate(planned.stages):
        if not differences(theirs, stage.model):
            return number
    return len(planned.stages) - 1
