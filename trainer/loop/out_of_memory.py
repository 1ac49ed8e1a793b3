"""Out-of-memory errors: what counts as one, and that all ranks treat one as their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType

import torch

from shared.errors import RunError
from shared.text import one_line, plural
from trainer.distributed.group import Group

#: What the ranks that torchrun starts next must not exceed, among what the group remembers.
MICRO_BATCH = "micro_batch"

#: What torch says when the system refuses memory; only CUDA has an exception of its own.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether `error` is an out-of-memory error of any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(x in str(error) for x in _OUT_OF_MEMORY)


class OutOfMemoryElsewhereError(MemoryError):
    """Another rank ran out of memory, so this one must not go on either."""


class OutOfMemoryTogether:
    """An attempt that all ranks make: if one of them runs out of memory, it fails on all.

    Those that did not learn it in `check_together`, or at the end. If they cannot wait for that,
    an attempt at so many `sequences` at once ends as in `out_of_memory_ends`.
    """

    def __init__(self, group: Group, sequences: int, *, can_wait: bool = True) -> None:
        self._group = group
        self._sequences = sequences
        self._can_wait = can_wait

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if error is None:
            check_together(self._group)
        elif is_out_of_memory(error) and not isinstance(error, OutOfMemoryElsewhereError):
            if not self._can_wait:
                raise _lonely(self._group, self._sequences, error) from error
            self._group.agree(1.0)


def check_together(group: Group) -> None:
    """Raise OutOfMemoryElsewhereError if another rank has run out of memory."""
    if not group.alone and group.agree(0.0)[0]:
        raise OutOfMemoryElsewhereError("another rank ran out of memory")


@contextlib.contextmanager
def out_of_memory_ends(group: Group, sequences: int) -> Iterator[None]:
    """Out of memory is a RunError: the other ranks wait for this one in the middle of a pass.

    Whoever starts them again makes them try fewer sequences at once.
    """
    try:
        yield
    except BaseException as error:
        if is_out_of_memory(error):
            raise _lonely(group, sequences, error) from error
        raise


def _lonely(group: Group, sequences: int, error: BaseException) -> RunError:
    """Out of memory where the other ranks cannot be told."""
    fewer = sequences // 2
    if not fewer:
        return RunError(
            f"Out of memory on {group.world} with a single sequence at a time "
            f"({one_line(error, 200)}); choose --grad-checkpoint-every 1, a shorter --seq-len, a "
            "smaller model or more ranks."
        )
    group.remember(MICRO_BATCH, str(fewer), from_any_rank=True)
    return RunError(
        f"Out of memory on {group.world} with {plural(sequences, 'sequence')} at once "
        f"({one_line(error, 200)}); the ranks cannot try again together in the middle of an "
        f"exchange: resume with --micro-batch {fewer}."
    )
