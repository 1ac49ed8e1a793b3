"""Gradient checkpointing (Chen et al. 2016): blocks are computed again in the backward pass.

Only the inputs of every N-th block are kept, not what is inside the blocks. The backward pass
computes a piece of N blocks again when it comes to it, so at most N blocks' activations are in
memory at once, for one forward pass more. Results are the same, bit by bit where the kernels are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trainer.config.model import ModelConfig


def draws_random_numbers(model: ModelConfig) -> bool:
    """Whether a training pass draws any, which have to be the same when it is computed again."""
    return model.dropout > 0 or model.lora_dropout > 0


@dataclass(frozen=True)
class Recomputation:
    """`every` blocks are a piece; 0: everything is kept. `random` blocks draw random numbers."""

    every: int = 0
    random: bool = False

    def through(self, blocks: nn.ModuleList, x: Any, *others: Any) -> Any:
        """`x` through all blocks, each of which is called with `others` too.

        `x` is a tensor or a tuple of them.
        """
        if not self.every or not torch.is_grad_enabled() or not blocks.training:
            return _through(blocks, others, x)
        all_blocks = list(blocks)
        for first in range(0, len(all_blocks), self.every):
            x = checkpoint(
                partial(_through, all_blocks[first : first + self.every], others),
                x,
                use_reentrant=False,
                # Saving the generator's state makes the host wait for a GPU.
                preserve_rng_state=self.random,
            )
        return x


KEEP_ALL = Recomputation()


def _through(blocks: Iterable[nn.Module], others: tuple[Any, ...], x: Any) -> Any:
    for block in blocks:
        x = block(x, *others)
    return x
