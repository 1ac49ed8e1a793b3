"""Gradient norms and clipping (Pascanu et al. 2013)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class GradientNorms(NamedTuple):
    """The norm of every gradient, in the order of the parameters that have one, and of all."""

    each: Tensor
    total: Tensor


def clip_gradients(parameters: Mapping[str, nn.Parameter], limit: float) -> GradientNorms:
    """Scale the gradients down to a global norm of `limit` (0: leave them alone).

    Returns the norms from before, without waiting for the device.
    """
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    each = torch.stack(torch._foreach_norm(gradients))
    total = torch.linalg.vector_norm(each)
    if limit:
        torch.nn.utils.clip_grads_with_norm_(parameters.values(), limit, total, foreach=True)
    return GradientNorms(each, total)


def suspect(parameters: Mapping[str, nn.Parameter], norms: GradientNorms) -> str:
    """The parameter with the largest gradient, or the last whose gradient is not finite.

    Call it while the gradients are still there.
    """
    names = [name for name, parameter in parameters.items() if parameter.grad is not None]
    by_name = dict(zip(names, norms.each.tolist(), strict=True))
    broken = [name for name, value in by_name.items() if not math.isfinite(value)]
    # Backpropagation carries NaN from there to everything before: the last is the source.
    return broken[-1] if broken else max(by_name, key=by_name.__getitem__)
