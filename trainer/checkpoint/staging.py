"""Copies of tensors in main memory, so that a checkpoint is written while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trainer.checkpoint.memory import available_memory
from trainer.sharded import is_sharded

MARGIN = 1.2  # free memory needed before the first copy, relative to its size


class Staging:
    """Buffers that every save reuses: allocating memory costs more than the copy."""

    def __init__(self, available: Callable[[], int] = available_memory) -> None:
        """`available` returns the free bytes of memory."""
        self._available = available
        self._buffers: dict[str, Tensor] = {}

    def fits(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether there is memory for copies of all `tensors`."""
        missing = sum(x.nbytes for name, x in tensors.items() if name not in self._buffers)
        return not missing or missing * MARGIN < self._available()

    def copy(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The current values, valid until the next call. The last copy must be written by then.

        Of tensors that are spread over ranks the others `give` their rows meanwhile.
        """
        for name, tensor in tensors.items():
            buffer = self._buffers.get(name)
            if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
                # Copies from a GPU to pinned memory run without a wait for each.
                pinned = tensor.device.type == "cuda"
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
                self._buffers[name] = buffer
            if is_sharded(tensor):
                from trainer.distributed.gathering import gather_whole

                gather_whole(tensor, buffer)
            else:
                buffer.copy_(tensor, non_blocking=buffer.is_pinned())
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return {name: self._buffers[name] for name in tensors}


def give(tensors: Mapping[str, Tensor]) -> None:
    """This rank's rows of the same tensors, while rank 0 copies them."""
    from trainer.distributed.gathering import gather_whole

    for tensor in tensors.values():
        if is_sharded(tensor):
            gather_whole(tensor, None)
