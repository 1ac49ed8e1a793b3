"""Muon (Jordan et al. 2024): momentum whose update is made orthogonal, for hidden matrices."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from trainer.config.optim import OptimConfig
from trainer.optim import orthogonal
from trainer.optim.interface import Hyperparameters, State, Update, assign_unless, zeros_for
from trainer.optim.orthogonal import Coefficients, polar_express, quintic

Scale = Literal["original", "match_rms_adamw"]

#: GPT-2's matrices are stored as (in, out).
_IN_OUT = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
#: Matrices that are several side by side along their outputs: each is orthogonalized by itself.
_FUSED = (
    (re.compile(r"\.(c_attn|qkv_proj)\.weight$"), 3),
    (re.compile(r"\.gate_up_proj\.weight$"), 2),
)


def blocks(name: str, matrix: Tensor) -> Sequence[Tensor]:
    """The matrices (out, in) of the parameter `name` that are orthogonalized each as one: views of
    `matrix`, which has the parameter's shape.
    """
    rows, _ = block_shape(name, matrix.shape)
    return (matrix.mT if _IN_OUT.search(name) else matrix).split(rows)


def block_shape(name: str, shape: torch.Size) -> tuple[int, int]:
    """The shape (out, in) of each of them."""
    rows, columns = reversed(shape) if _IN_OUT.search(name) else shape
    parts = next((count for pattern, count in _FUSED if pattern.search(name)), 1)
    if rows % parts:  # grouped heads: queries are more than keys and values
        parts = 1
    return rows // parts, columns


def scale_of(shape: tuple[int, int], scale: Scale) -> float:
    """The factor of the learning rate for a matrix (out, in)."""
    rows, columns = shape
    if scale == "match_rms_adamw":  # Liu et al. 2025, arXiv:2502.16982
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1.0, rows / columns))


@dataclass(frozen=True)
class Muon:
    """m = beta m + (1 - beta) g; w = (1 - rate decay) w - rate scale orthogonal(Nesterov of m).

    In `dtype`, or in bf16 where that is faster (None). At most `stack` numbers are stacked at once,
    so that the copies stay small beside a large model.
    """

    momentum: float
    weight_decay: float
    scale: Scale
    coefficients: Coefficients
    dtype: torch.dtype | None = None
    stack: int = 1 << 26
    honours_skip: ClassVar[bool] = True
    matrices_only: ClassVar[bool] = True

    def __str__(self) -> str:
        scale = "" if self.scale == "original" else f", scale {self.scale}"
        return f"momentum {self.momentum:g}, weight decay {self.weight_decay:g}{scale}"

    def new_state(self, parameter: Tensor) -> State:
        """One zero moment."""
        return {"momentum": zeros_for(parameter)}

    def scratch(self, counts: Mapping[torch.Size, int]) -> int:
        """What all are moved by, and the copies of the matrices that are worked on together: as
        they are, divided by their norms, and in the dtype of the products."""
        every = [(shape.numel(), count) for shape, count in counts.items()]
        together = max(
            (min(size * count, max(self.stack, size)) for size, count in every), default=0
        )
        return 4 * sum(size * count for size, count in every) + 12 * together

    def update(self, update: Update, rate: float, skip: Tensor | None) -> None:
        """One step of Muon."""
        gradients = list(update.gradients)
        moments = [state["momentum"] for state in update.states]
        if skip is None:
            torch._foreach_lerp_(moments, gradients, 1 - self.momentum)
        else:
            for moment, gradient in zip(moments, gradients, strict=True):
                assign_unless(skip, moment, moment.lerp(gradient, 1 - self.momentum))
        moved = torch._foreach_lerp(gradients, moments, self.momentum)
        device = moved[0].device
        dtype = self.dtype or fastest_dtype(device)
        function = partial(self.orthogonalize, dtype)
        update.sharing.change(function, update.names, moved, update.shapes, exact_in=dtype)
        kept = 1 - rate * self.weight_decay
        named = zip(update.names, update.shapes, update.parameters, moved, strict=True)
        for name, shape, weight, x in named:
            step = -rate * scale_of(block_shape(name, shape), self.scale)
            if skip is None:
                weight.mul_(kept).add_(x, alpha=step)
            else:
                assign_unless(skip, weight, (weight * kept).add_(x, alpha=step))

    def orthogonalize(
        self, dtype: torch.dtype, names: Sequence[str], matrices: Sequence[Tensor]
    ) -> None:
        """Make the blocks of whole matrices orthogonal, in place."""
        named = zip(names, matrices, strict=True)
        every = [block for name, matrix in named for block in blocks(name, matrix)]
        for batch in _of_equal_shape(every, self.stack):
            rows, columns = batch[0].shape
            tall = rows > columns
            x_NRC = torch.stack([block.mT if tall else block for block in batch])
            x_NRC = orthogonal.orthogonalize(x_NRC, self.coefficients, dtype)
            for block, x_RC in zip(batch, x_NRC.mT if tall else x_NRC, strict=True):
                block.copy_(x_RC)


def _of_equal_shape(every: list[Tensor], most: int) -> Iterator[list[Tensor]]:
    """The matrices in batches of one shape, of `most` numbers each."""
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for block in every:
        by_shape.setdefault(block.shape, []).append(block)
    for shape, alike in by_shape.items():
        size = max(1, most // shape.numel())
        for first in range(0, len(alike), size):
            yield alike[first : first + size]


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device multiplies it faster than fp32; elsewhere it may be 50 times slower."""
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        fast = bool(can.get("amx_bf16") or can.get("avx512_bf16"))
    else:
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


_COEFFICIENTS = {"quintic": quintic, "polar_express": polar_express}
_DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


def make(optim: OptimConfig, row: Hyperparameters) -> Muon:
    """The rule of a row of the table."""
    return Muon(
        momentum=row.betas[0],
        weight_decay=row.weight_decay,
        scale=optim.muon_scale,
        coefficients=_COEFFICIENTS[optim.muon_coefficients](optim.muon_steps),
        dtype=_DTYPES[optim.muon_dtype],
    )
