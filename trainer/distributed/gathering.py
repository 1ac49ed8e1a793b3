"""Whole tensors in the main memory of rank 0, of rows that are spread over all ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.sharded import here


@torch.no_grad()
def gather_whole(tensor: Tensor, into: Tensor | None) -> None:
    """Fill `into` (whole, in main memory) on rank 0 with the rows of all ranks.

    To be called by every rank; the others have no `into`. One tensor at a time is whole on rank 0's
    device. Its copy to main memory may still be under way afterwards.
    """
    ranks = dist.get_world_size()
    rows = here(tensor)
    # As torch.chunk cuts: equal stretches, of which only the last ones are short.
    each = -(-tensor.shape[0] // ranks)
    if len(rows) < each:
        padded = rows.new_zeros(each, *rows.shape[1:])
        padded[: len(rows)] = rows
        rows = padded
    if into is None:
        dist.gather(rows.contiguous(), None, dst=0)
        return
    fits = into.device == rows.device and len(into) == ranks * each
    gathered = into if fits else rows.new_empty(ranks * each, *rows.shape[1:])
    dist.gather(rows.contiguous(), list(gathered.split(each)), dst=0)
    if gathered is not into:
        into.copy_(gathered[: len(into)], non_blocking=into.is_pinned())
