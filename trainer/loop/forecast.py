"""What a plan comes to, as lines for a person: tokens and arithmetic of all steps and stages, and
what each of several ranks does, takes and exchanges."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from shared.text import format_bytes, format_count, format_duration, plural
from trainer.config.schema import Config
from trainer.distributed.communication import passes_of, received_per_step
from trainer.distributed.peaks import peak_flops
from trainer.growth.stages import Stage, without_growth
from trainer.loop.memory_plan import estimated_memory, whole_gradients
from trainer.model.dimensions import dimensions
from trainer.model.estimates import computed_flops_per_token
from trainer.model.shapes import count_parameters

if TYPE_CHECKING:
    from trainer.loop.plan import Plan

#: The MFU for which a duration is told where the device's peak is known.
MFU = 0.4


class Part(NamedTuple):
    """A stage of a run: its steps from `first` to `last`, the tokens and FLOPs of all of them."""

    stage: Stage
    config: Config
    first: int
    last: int

    @property
    def steps(self) -> int:
        """How many there are."""
        return self.last - self.first + 1

    @property
    def tokens(self) -> int:
        """Trained on, padding of pairs included."""
        return self.steps * self.config.tokens_per_step

    @property
    def flops(self) -> float:
        """Of training alone: no validation, no samples."""
        return self.tokens * computed_flops_per_token(self.config)


def parts_of(planned: Plan) -> list[Part]:
    """The stages of the whole run in their order; one for a run that does not grow."""
    found, before = [], 0
    for stage in planned.stages:
        last = planned.max_steps if stage.last_step is None else stage.last_step
        found.append(Part(stage, without_growth(planned.config, stage.model), before + 1, last))
        before = last
    return found


def length_lines(planned: Plan) -> Iterator[str]:
    """How long the run is, stage by stage where it grows."""
    if planned.config.data.dataset == "prompts":  # as many tokens as the answers turn out to have
        return
    parts = parts_of(planned)
    for before, now in pairwise(parts[planned.stage :]):  # a resumed run has grown already
        n, count = dimensions(now.stage.model), count_parameters(now.stage.model)
        yield (
            f"after step {before.last} it grows to {format_count(count)} parameters: "
            f"{plural(n.L, 'layer')}, width {n.D}, {plural(n.H, 'head')}"
        )
    if len(parts) > 1:
        yield from map(_stage_line, parts, [_memory(planned, part) for part in parts])
    tokens, flops = sum(part.tokens for part in parts), sum(part.flops for part in parts)
    yield (
        f"in all {plural(planned.max_steps, 'step')}, {format_count(tokens)} tokens, "
        f"{flops:.3g} FLOPs{_compared(parts, flops)}{_duration(planned, flops)}"
    )


def _stage_line(part: Part, memory: str) -> str:
    return (
        f"stage {part.stage.phase}: steps {part.first:,} to {part.last:,}, "
        f"{format_count(count_parameters(part.stage.model))} parameters, "
        f"{format_count(part.tokens)} tokens, {part.flops:.3g} FLOPs, memory {memory}"
    )


def _memory(planned: Plan, part: Part) -> str:
    world = planned.group.world
    return format_bytes(estimated_memory(part.config, planned.compute, world).total)


def _compared(parts: list[Part], flops: float) -> str:
    """What a run that grows computes beside one that has its last model from the start."""
    if len(parts) == 1:
        return ""
    last = parts[-1]
    return f", as many as {plural(round(flops / (last.flops / last.steps)), 'step')} of the last"


def _duration(planned: Plan, flops: float) -> str:
    peak = peak_flops(planned.compute)
    if peak is None:
        return ""
    seconds = flops / (MFU * peak * planned.group.world.size)
    return f"; {format_duration(seconds)} if {MFU:.0%} of the peak are reached"


def memory_line(planned: Plan) -> str:
    """The memory of the process, or of rank 0 and of all ranks of a machine."""
    world, memory = planned.group.world, planned.memory
    largest = ", at the last stage" if len(planned.stages) > 1 else ""
    if world.alone:
        return f"memory {memory}{largest}"
    together = memory.copy + world.local_size * (memory.total - memory.copy)
    others = "; the copy is rank 0's alone" if memory.copy else ""
    return (
        f"memory of a rank {memory}{largest}; of the {plural(world.local_size, 'rank')} of a "
        f"machine {format_bytes(together)}{others}"
    )


def rank_lines(planned: Plan) -> Iterator[str]:
    """What each of several ranks trains on in a step, and what it exchanges."""
    config, world = planned.largest, planned.group.world
    if world.alone:
        return
    least, rest = divmod(config.sequences_per_step, world.size)
    share = f"{least} or {least + 1}" if rest else f"{least}"
    passes = passes_of(config, world)
    yield (
        f"each rank trains on {share} of a step's {plural(config.sequences_per_step, 'sequence')}, "
        f"in {plural(passes, 'micro-batch', 'es')}"
        + (" or fewer, as memory allows" if config.train.micro_batch == "auto" else "")
    )
    whole = config.train.parallel == "fsdp" and whole_gradients(config, planned.compute, world)
    received = received_per_step(config, planned.compute, world, whole_gradients=whole)
    yield f"each rank sends and receives about {format_bytes(received)} in a step"
