"""How many sequences go through the model at once: fewer when memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import lru_cache
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor

from shared.errors import RunError
from shared.text import one_line
from trainer.config.schema import Config
from trainer.data.batches import to_tensors
from trainer.loop.hooks import Purpose, nothing
from trainer.loop.memory_plan import free_memory
from trainer.loop.out_of_memory import is_out_of_memory
from trainer.loop.session import Session
from trainer.model.estimates import estimate_memory
from trainer.model.loss import Losses

T = TypeVar("T")


class Attempt:
    """One try at something that may run out of memory. As a context manager it swallows that
    error, and keeps its text in `error`.
    """

    error = ""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        if not is_out_of_memory(error):
            return False
        self.error = _told(error)
        return True


class MicroBatch:
    """The number of sequences per forward pass. `changed(old, new, error)` is called when it
    shrinks.
    """

    def __init__(self, size: int, changed: Callable[[int, int, str], None] = nothing) -> None:
        self.size = size
        #: Whether no step has been made with this size yet.
        self.untried = True
        self._changed = changed

    def parts(self, total: int) -> tuple[int, ...]:
        """`total` sequences as numbers of at most `size`."""
        return _parts(total, self.size)

    def attempts(self, undo: Callable[[], None] = nothing) -> Iterator[Attempt]:
        """Attempts, until one does not run out of memory; the size is halved after each that does.

            for attempt in micro_batch.attempts():
                with attempt:
                    ...

        `undo` reverts what a failed attempt has done. Raises RunError if a single sequence is too
        much.
        """
        while True:
            attempt = Attempt()
            yield attempt
            if not attempt.error:
                return
            # By now the failed attempt's traceback is gone, and with it the tensors it held.
            self._shrink(attempt.error, undo)

    def attempted(self, attempt: Callable[[], T], undo: Callable[[], None]) -> T:
        """What `attempt` returns, by the same rule; costs nothing where memory suffices."""
        while True:
            try:
                return attempt()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                told = _told(error)
            self._shrink(told, undo)

    def _shrink(self, error: str, undo: Callable[[], None]) -> None:
        undo()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.size == 1:
            raise RunError(
                f"Out of memory with a single sequence at a time ({error}); choose "
                "--grad-checkpoint-every 1, a shorter --seq-len or a smaller model, or free "
                "some memory."
            )
        old, self.size = self.size, self.size // 2
        self.untried = True
        self._changed(old, self.size, error)


@lru_cache(maxsize=64)
def _parts(total: int, size: int) -> tuple[int, ...]:
    whole, rest = divmod(total, size)
    return (size,) * whole + ((rest,) if rest else ())


def _told(error: BaseException | None) -> str:
    return one_line(error, 200) or "out of memory"


class Undo:
    """Reverts a failed step: gradients are freed, and dropout draws the same numbers again."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cpu = self._cuda = None
        if session.learner.random:
            device = session.compute.device
            self._cpu = torch.get_rng_state()
            self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def __call__(self) -> None:
        self._session.optimizer.zero_grad()
        self._session.learner.parallel.abandon()
        if self._cpu is not None:
            torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._session.compute.device)


def losses_of(model: Callable[..., Losses], batch: tuple[Tensor, ...]) -> Losses:
    """The losses of a batch: inputs, targets and, if it has them, weights and positions."""
    if len(batch) == 2:
        return model(*batch)
    inputs, targets, *more = batch
    named = zip(("weights_BT", "positions_BT"), more, strict=False)
    return model(inputs, targets, **dict(named))


def largest_that_fits(
    session: Session, before_forward: Callable[[Purpose, int], None] = nothing
) -> int:
    """The most sequences, up to a whole step's, whose forward and backward pass fit into memory.

    Tried on a GPU; on a CPU, which promises more memory than it has, estimated first. Leaves no
    gradient and no changed generator behind.
    """
    config, device = session.config, session.compute.device
    size = session.sequences_here
    available = free_memory(device)
    while size > 1 and _activations(config, size, session) > available:
        size //= 2
    if not session.learner.parallel.can_wait:
        return size  # to try it would leave the other ranks waiting
    micro_batch = MicroBatch(size)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        for attempt in micro_batch.attempts(session.optimizer.zero_grad):
            with attempt:
                before_forward("probe", micro_batch.size)
                batch = session.sources.train.batch(session.progress.samples, micro_batch.size)
                with session.compute.autocast():
                    losses = losses_of(session.learner.eager, to_tensors(batch, device))
                losses.total.backward()
    session.optimizer.zero_grad()
    return micro_batch.size


def _activations(config: Config, size: int, session: Session) -> int:
    """Bytes that come and go in a step of passes over `size` sequences, gradients included."""
    train = config.train.model_copy(update={"micro_batch": size})
    compute = session.compute
    estimate = estimate_memory(
        config.model_copy(update={"train": train}),
        bf16=compute.bf16,
        cuda=compute.device.type == "cuda",
    )
    return estimate.in_step
