"""How much a rank exchanges with the others in a step: a count, from the shapes of the model."""

from __future__ import annotations

import math

from trainer.config.schema import Config
from trainer.distributed.device import Compute
from trainer.distributed.world import World
from trainer.model.estimates import sequences_at_once
from trainer.model.shapes import (
    block_parameters,
    gathered_in_bf16,
    parameter_count,
    trained_shapes,
)
from trainer.optim.muon import Muon, fastest_dtype
from trainer.optim.registry import planned_optimizer


def received_per_step(
    config: Config, compute: Compute, world: World, *, whole_gradients: bool
) -> int:
    """Bytes that a rank receives in a step, on the mean of all ranks; it sends as many.

    DDP: gradients in fp32, summed and told to all. FSDP: for each pass the matrices of every block
    are gathered twice and the others once, and gradients are summed once a pass, or once a step
    where every rank keeps `whole_gradients`. Muon: matrices travel to their owners and back, or
    from their owners. What has a few bytes (losses, norms, gains) is left out.
    """
    if world.alone:
        return 0
    others = (world.size - 1) / world.size
    count = parameter_count(config.model)
    if config.train.parallel != "fsdp":
        return int(others * (8 * count.trained + _owned(config, compute, 1.0, sharded=False)))
    blocks = config.model.num_layers * block_parameters(config.model)
    outside = count.total - blocks
    width = 2 if gathered_in_bf16(config.model, bf16=compute.bf16) else 4
    passes = passes_of(config, world)
    sums = 1 if whole_gradients else passes
    gathered = passes * (2 * width * blocks + 4 * outside)
    owned = _owned(config, compute, 1 / world.size, sharded=True)
    return int(others * (gathered + 4 * sums * count.trained + owned))


def passes_of(config: Config, world: World) -> int:
    """Forward and backward passes of a rank in a step."""
    share = math.ceil(config.sequences_per_step / world.size)
    return math.ceil(share / sequences_at_once(config, world.size))


def _owned(config: Config, compute: Compute, share: float, *, sharded: bool) -> float:
    """Bytes of the matrices that have owners, of which a rank owns `share`."""
    optimizer = planned_optimizer(trained_shapes(config.model), config.optim)
    total = 0.0
    for group in optimizer.groups:
        if isinstance(group.rule, Muon):
            exact = (group.rule.dtype or fastest_dtype(compute.device)).itemsize
            numbers = sum(parameter.numel() for parameter in group.parameters.values())
            total += share * numbers * (exact + (4 if sharded else 0))
    return total
