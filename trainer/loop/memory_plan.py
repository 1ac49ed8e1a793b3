"""The memory that a training will take, and whether blocks are computed again to save some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psutil
import torch

from shared.errors import UserError
from shared.text import format_bytes, plural
from trainer.checkpoint.memory import available_memory
from trainer.config.schema import Config
from trainer.distributed.device import Compute
from trainer.model.estimates import MemoryEstimate, estimate_memory
from trainer.model.shapes import describe, trained_shapes
from trainer.optim.registry import state_bytes

#: What a process takes besides its state at first: threads, compiled kernels, fragments of memory.
PROCESS_GROWTH = 50 << 20
#: Blocks between kept activations where memory is short: the training-tools guide's, and if that is
#: too much, every block.
WHEN_SHORT = (4, 1)


def with_recomputation(config: Config, compute: Compute, free: int) -> Config:
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
        estimate = estimated_memory(_at_least(chosen), compute)
        if estimate.total - estimate.process <= free:
            break
    return chosen


_EVERY = "grad_checkpoint_every"


def _at_least(config: Config) -> Config:
    """With as few sequences at once as the configuration allows."""
    if config.train.micro_batch != "auto":
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"micro_batch": 1})})


def estimated_memory(config: Config, compute: Compute) -> MemoryEstimate:
    """What training `config` takes on that device, the process included on a CPU."""
    cuda = compute.device.type == "cuda"
    estimate = estimate_memory(config, bf16=compute.bf16, cuda=cuda)
    optimizer = optimizer_bytes(config)
    if cuda:
        return replace(estimate, optimizer=optimizer)
    return replace(
        estimate,
        optimizer=optimizer,
        copy=estimate.gradients + optimizer if estimate.copy else 0,
        process=psutil.Process().memory_info().rss + PROCESS_GROWTH,
    )


def optimizer_bytes(config: Config) -> int:
    """Bytes of the optimizer's state."""
    # Layers are alike, so two models tell all of them.
    one, two = (
        state_bytes(
            trained_shapes(config.model.model_copy(update={"num_layers": layers})), config.optim
        )
        for layers in (1, 2)
    )
    return one + (config.model.num_layers - 1) * (two - one)


def check_memory(config: Config, compute: Compute, estimate: MemoryEstimate) -> None:
    """Raise UserError if weights, gradients and optimizer alone exceed the machine's memory."""
    available = total_memory(compute)
    where = str(compute.device) if compute.device.type == "cuda" else "this machine"
    if estimate.state > available:
        raise UserError(
            f"{describe(config)} needs {format_bytes(estimate.state)} for weights, gradients and "
            f"optimizer, and {where} has {format_bytes(available)}; choose a smaller model."
        )


def total_memory(compute: Compute) -> int:
    """Total bytes of memory where the model will be."""
    if compute.device.type == "cuda":
        return int(torch.cuda.get_device_properties(compute.device).total_memory)
    return int(psutil.virtual_memory().total + psutil.swap_memory().total)


def free_memory(device: torch.device) -> int:
    """Free bytes where the model is."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def memory_notes(config: Config, compute: Compute, estimate: MemoryEstimate) -> Iterator[str]:
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
    available = total_memory(compute)
    if estimate.total > available:
        less = "" if every else "--grad-checkpoint-every 1, "
        yield (
            f"That is more than the {format_bytes(available)} available: if memory runs out, "
            f"{less}lower --batch-size and raise --accumulation-steps, or shorten --seq-len"
        )


def _ordinal(number: int) -> str:
    teen = 10 <= number % 100 < 20
    return f"{number}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
