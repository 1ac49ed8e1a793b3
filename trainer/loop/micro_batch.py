"""How many sequences go through the model at once: fewer when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from shared.errors import RunError
from shared.text import one_line
from trainer.checkpoint.memory import available_memory
from trainer.config.schema import Config
from trainer.data.batches import to_tensors
from trainer.loop.hooks import Purpose, nothing
from trainer.loop.session import Session
from trainer.model.estimates import estimate_memory

T = TypeVar("T")

#: What torch says when the system refuses it memory; only CUDA has an exception of its own.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(x in str(error) for x in _OUT_OF_MEMORY)


class MicroBatch:
    """The number of sequences per forward pass. `told(old, new, message)` hears of every change."""

    def __init__(
        self, size: int, told: Callable[[int, int, str], None] = lambda _old, _new, _message: None
    ) -> None:
        self.size = size
        self._told = told

    def parts(self, total: int) -> list[int]:
        """`total` sequences as numbers of at most `size`."""
        whole, rest = divmod(total, self.size)
        return [self.size] * whole + ([rest] if rest else [])

    def fitting(self, attempt: Callable[[], T], undo: Callable[[], None]) -> T:
        """What `attempt` returns, tried again with half the size for as long as memory runs out.

        `undo` takes back what a failed attempt has done. Raises RunError when a single sequence
        is too much.
        """
        while True:
            try:
                return attempt()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                message = one_line(error, 200)
            # Only out here is the failed attempt's traceback let go, and the tensors it holds.
            undo()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if self.size == 1:
                raise RunError(
                    f"Memory runs out with a single sequence at a time ({message}); choose a "
                    "shorter --seq-len or a smaller model, or free some memory."
                )
            old, self.size = self.size, self.size // 2
            self._told(old, self.size, message)


def largest_that_fits(
    session: Session, before_forward: Callable[[Purpose, int], None] = nothing
) -> int:
    """The most sequences, up to a whole step's, whose forward and backward pass fit into memory.

    On a GPU tried out; on a CPU, which promises more than it has, reckoned first. Leaves no
    gradient and no changed generator behind.
    """
    config, device = session.config, session.compute.device
    size = config.train.batch_size * config.train.accumulation_steps
    available = free_memory(device)
    while size > 1 and _activations(config, size, session) > available:
        size //= 2
    micro_batch = MicroBatch(size)

    def forget() -> None:
        session.optimizer.zero_grad()

    def attempt() -> int:
        before_forward("probe", micro_batch.size)
        batch = session.sources.train.batch(session.progress.samples, micro_batch.size)
        inputs, targets = to_tensors(batch, device)
        with session.compute.autocast():
            loss = session.model(inputs, targets).total
        loss.backward()
        return micro_batch.size

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        found = micro_batch.fitting(attempt, forget)
    forget()
    return found


def _activations(config: Config, size: int, session: Session) -> int:
    """Bytes that a forward and backward pass over `size` sequences takes, gradients included."""
    train = config.train.model_copy(update={"batch_size": size})
    compute = session.compute
    estimate = estimate_memory(
        config.model_copy(update={"train": train}),
        bf16=compute.bf16,
        cuda=compute.device.type == "cuda",
    )
    return estimate.activations + estimate.gradients


def free_memory(device: torch.device) -> int:
    """Bytes not in use where the model lies."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()
