"""Gradient norms and clipping (Pascanu et al. 2013)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.optim.interface import ALONE, Sharing
from trainer.sharded import here, is_sharded

#: As in torch's clip_grad_norm_.
_EPS = 1e-6


class GradientNorms(NamedTuple):
    """The norm of every gradient, and of all. `names` are those of the parameters that have one, in
    the order of the norms.
    """

    each: Tensor
    total: Tensor
    names: Collection[str]


def clip_gradients(
    parameters: Mapping[str, nn.Parameter], limit: float, sharing: Sharing = ALONE
) -> GradientNorms:
    """Scale the gradients down to a global norm of `limit` (0: leave them alone).

    Returns the norms from before, without waiting for the device. They are those of whole
    gradients, where `sharing` processes hold rows of them.
    """
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    if sharing.spreads_rows:
        rows = [here(gradient) for gradient in gradients]
        each = torch.stack(torch._foreach_norm(rows))
        # In double precision: the square of a norm that is finite may not be.
        sharded = [is_sharded(gradient) for gradient in gradients]
        each = sharing.sum_of_squares(each.double().square(), sharded).sqrt().to(each.dtype)
        gradients = rows
    else:
        each = torch.stack(torch._foreach_norm(gradients))
    total = torch.linalg.vector_norm(each)
    if limit:
        scale = (limit / (total + _EPS)).clamp(max=1.0)
        # A CPU knows already whether there is something to scale down.
        if scale.device.type != "cpu" or scale.item() != 1.0:
            torch._foreach_mul_(gradients, scale)
    every = len(gradients) == len(parameters)
    names = parameters if every else [n for n, p in parameters.items() if p.grad is not None]
    return GradientNorms(each, total, names)


def scale_gradients(parameters: Mapping[str, nn.Parameter], scale: Tensor) -> None:
    """Multiply every gradient by a scalar on the device."""
    if scale.device.type == "cpu" and scale.item() == 1.0:
        return
    gradients = [here(p.grad) for p in parameters.values() if p.grad is not None]
    torch._foreach_mul_(gradients, scale)


def suspect(norms: GradientNorms) -> str:
    """The parameter with the largest gradient, or the last whose gradient is not finite."""
    by_name = dict(zip(norms.names, norms.each.tolist(), strict=True))
    broken = [name for name, value in by_name.items() if not math.isfinite(value)]
    # Backpropagation carries NaN from there to everything before: the last is the source.
    return broken[-1] if broken else max(by_name, key=by_name.__getitem__)
