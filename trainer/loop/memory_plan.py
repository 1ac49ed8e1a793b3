"""The memory that a training will take, and whether blocks are computed again to save some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import psutil
import torch

from shared.errors import UserError
from shared.text import format_bytes, plural
from trainer.checkpoint.memory import available_memory
from trainer.config.model import ModelConfig
from trainer.config.resolve import check
from trainer.config.schema import Config
from trainer.distributed.device import Compute
from trainer.distributed.world import ONE_PROCESS, World
from trainer.hybrid.predictors import kept_bytes
from trainer.model.estimates import MemoryEstimate, estimate_memory, spread_over
from trainer.model.shapes import Shapes, describe, trained_shapes
from trainer.optim import registry

#: What a process takes besides its state at first: threads, compiled kernels, fragments of memory.
PROCESS_GROWTH = 25 << 20
#: Blocks between kept activations where memory is short: the training-tools guide's, and if that is
#: too much, every block.
WHEN_SHORT = (4, 1)
#: Of a device's memory, what weights, gradients and optimizer of a whole model may take in each
#: rank. The rest is for activations.
REPLICA_SHARE = 0.5
#: Of a device's memory, what an estimate may come to if more is taken for speed.
COMFORTABLE = 0.8


def parallel_of(config: Config, compute: Compute, world: World) -> str:
    """`train.parallel`, decided: ddp, unless a whole model is too much for a rank."""
    train = config.train
    if train.parallel != "auto":
        return train.parallel
    replica = config.model_copy(update={"train": train.model_copy(update={"parallel": "ddp"})})
    state = estimated_memory(replica, compute, world).state
    large = state > REPLICA_SHARE * total_memory(compute, world)
    return "fsdp" if large and can_be_sharded(config) else "ddp"


def can_be_sharded(config: Config) -> bool:
    """Whether every rank may hold some rows of the model only."""
    train = config.train.model_copy(update={"parallel": "fsdp"})
    return not check(config.model_copy(update={"train": train}))


def whole_gradients(config: Config, compute: Compute, world: World) -> bool:
    """Whether the ranks of a sharded model keep the gradients of all of it until a step's end.

    It saves exchanging them after every micro-batch.
    """
    estimate = estimated_memory(config, compute, world, whole_gradients=True)
    return estimate.total <= COMFORTABLE * total_memory(compute, world)


def with_recomputation(
    config: Config, compute: Compute, free: int, world: World = ONE_PROCESS
) -> Config:
    """`config` with `train.grad_checkpoint_every` decided: 0 unless memory is short.

    With `micro_batch: auto` memory is short if a single sequence is too much. Collider keeps all.
    `free` are the free bytes, the same for all ranks: they must compute the same blocks again.
    """
    train = config.train
    if train.grad_checkpoint_every is not None:
        return config
    chosen = config.model_copy(update={"train": train.model_copy(update={_EVERY: 0})})
    if train.collider:
        return chosen
    for every in (0, *WHEN_SHORT):
        if every and every >= config.model.num_layers:
            continue
        chosen = config.model_copy(update={"train": train.model_copy(update={_EVERY: every})})
        estimate = estimated_memory(_at_least(chosen), compute, world)
        if estimate.total - estimate.process <= free:
            break
    return chosen


_EVERY = "grad_checkpoint_every"


def _at_least(config: Config) -> Config:
    """With as few sequences at once as the configuration allows."""
    if config.train.micro_batch != "auto":
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"micro_batch": 1})})


def estimated_memory(
    config: Config,
    compute: Compute,
    world: World = ONE_PROCESS,
    *,
    whole_gradients: bool = False,
) -> MemoryEstimate:
    """What training `config` takes on that device, the process included on a CPU; by rank 0, if
    there are several. `whole_gradients` are those of a sharded model.
    """
    cuda = compute.device.type == "cuda"
    estimate = estimate_memory(config, bf16=compute.bf16, cuda=cuda, ranks=world.size)
    optimizer = optimizer_bytes(config)
    optimizer += kept_bytes(config.hybrid.predictor, estimate.gradients, optimizer)
    scratch = max(estimate.scratch, scratch_bytes(config))
    estimate = replace(estimate, optimizer=optimizer, scratch=scratch)
    if not cuda:
        estimate = replace(
            estimate,
            copy=estimate.gradients + optimizer if estimate.copy else 0,
            process=psutil.Process().memory_info().rss + PROCESS_GROWTH,
        )
    if world.alone:
        return estimate
    if config.train.parallel != "fsdp":
        # The first step, and every pass but a step's last, leave gradients beside DDP's buckets.
        return replace(estimate, buckets=estimate.gradients)
    return spread_over(
        estimate, config, world.size, bf16=compute.bf16, whole_gradients=whole_gradients
    )


def optimizer_bytes(config: Config) -> int:
    """Bytes of the optimizer's state."""
    # Layers are alike, so two models tell all of them.
    one, two = (
        registry.state_bytes(_shapes_of_layers(config.model, layers), config.optim)
        for layers in (1, 2)
    )
    return one + (config.model.num_layers - 1) * (two - one)


def scratch_bytes(config: Config) -> int:
    """Bytes that the optimizer takes besides its state while it updates."""
    return registry.scratch_bytes(
        partial(_shapes_of_layers, config.model), config.model.num_layers, config.optim
    )


def _shapes_of_layers(model: ModelConfig, layers: int) -> Shapes:
    return trained_shapes(model.model_copy(update={"num_layers": layers}))


def check_memory(
    config: Config, compute: Compute, estimate: MemoryEstimate, world: World = ONE_PROCESS
) -> None:
    """Raise UserError if weights, gradients and optimizer alone exceed the machine's memory."""
    available = total_memory(compute, world)
    where = str(compute.device) if compute.device.type == "cuda" else "this machine"
    if estimate.state > available:
        raise UserError(
            f"{describe(config)} needs {format_bytes(estimate.state)} for weights, gradients and "
            f"optimizer, and {where} has {format_bytes(available)}; choose a smaller model"
            f"{'' if world.alone else ' or more ranks with --parallel fsdp'}."
        )


def total_memory(compute: Compute, world: World = ONE_PROCESS) -> int:
    """Total bytes of memory where the model will be, for each rank."""
    if compute.device.type == "cuda":
        return int(torch.cuda.get_device_properties(compute.device).total_memory)
    return int(psutil.virtual_memory().total + psutil.swap_memory().total) // world.local_size


def free_memory(device: torch.device, world: World = ONE_PROCESS) -> int:
    """Free bytes where the model is, for each rank."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory() // world.local_size


def parallel_notes(
    config: Config, compute: Compute, estimate: MemoryEstimate, world: World
) -> Iterator[str]:
    """How the model is spread over the ranks, and what the other way would take."""
    if world.alone:
        return
    train = config.train
    other = "ddp" if train.parallel == "fsdp" else "fsdp"
    theirs = config.model_copy(update={"train": train.model_copy(update={"parallel": other})})
    if other == "fsdp" and not can_be_sharded(config):
        yield "Every rank holds the whole model (DDP)"
        return
    needed = format_bytes(
        replace(estimated_memory(theirs, compute, world), process=estimate.process).total
    )
    if train.parallel == "ddp":
        yield (
            f"Every rank holds the whole model (DDP); with --parallel fsdp a rank would take "
            f"{needed}"
        )
        return
    often = "step" if whole_gradients(config, compute, world) else "micro-batch"
    yield (
        f"Every rank holds some rows of each matrix (FSDP), and gradients are exchanged once a "
        f"{often}; with --parallel ddp a rank would take {needed}"
    )


def memory_notes(
    config: Config, compute: Compute, estimate: MemoryEstimate, world: World = ONE_PROCESS
) -> Iterator[str]:
    """Sentences about what is computed again, and about memory that may be too small."""
    every, layers = config.train.grad_checkpoint_every or 0, config.model.num_layers
    if every:
        kept = "block" if every == 1 else f"{_ordinal(every)} block"
        yield (
            f"Gradient checkpointing: the input of every {kept} is kept, and the backward pass "
            "computes the rest again (--grad-checkpoint-every 0 turns it off)"
        )
    if every >= layers:
        yield (
            f"--grad-checkpoint-every {every} saves little: the model has {plural(layers, 'block')}"
        )
    available = total_memory(compute, world)
    if estimate.total > available:
        less = "" if every else "--grad-checkpoint-every 1, "
        yield (
            f"That is more than the {format_bytes(available)} available: if memory runs out, "
            f"{less}lower --batch-size and raise --accumulation-steps, or shorten --seq-len"
        )


def _ordinal(number: int) -> str:
    teen = 10 <= number % 100 < 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
