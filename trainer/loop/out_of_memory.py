"""Out-of-memory errors: what counts as one, and that all ranks treat one as their own."""

from __future__ import annotations

from types import TracebackType

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


class OutOfMemoryTogether:
    """An attempt that all ranks make: if one of them runs out of memory, it fails on all.

    Those that did not learn it in `check_together`, or at the end.
    """

    def __init__(self, group: Group) -> None:
        self._group = group

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
            self._group.agree(1.0)


def check_together(group: Group) -> None:
    """Raise OutOfMemoryElsewhereError if another rank has run out of memory."""
    if not group.alone and group.agree(0.0)[0]:
        raise OutOfMemoryElsewhereError("another rank ran out of memory")
