"""Out-of-memory errors: what counts as one, and that all ranks treat one as their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from trainer.distributed.group import Group

#: What torch says when the system refuses memory; only CUDA has an exception of its own.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether `error` is an out-of-memory error of any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(x in str(error) for x in _OUT_OF_MEMORY)


class OutOfMemoryElsewhereError(MemoryError):
    """Another rank ran out of memory, so this one must not go on either."""


@contextlib.contextmanager
def out_of_memory_together(group: Group) -> Iterator[None]:
    """An attempt that all ranks make: if one of them runs out of memory, it fails on all.

    Those that did not learn it in `check_together`, or at the end.
    """
    try:
        yield
    except BaseException as error:
        if is_out_of_memory(error) and not isinstance(error, OutOfMemoryElsewhereError):
            group.agree(1.0)
        raise
    check_together(group)


def check_together(group: Group) -> None:
    """Raise OutOfMemoryElsewhereError if another rank has run out of memory."""
    if group.agree(0.0)[0]:
        raise OutOfMemoryElsewhereError("another rank ran out of memory")
