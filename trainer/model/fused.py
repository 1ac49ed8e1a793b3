"""Two operations with gradients of their own: fewer passes over memory than autograd's on a CPU.

The results are those of the plain operations, bit by bit; gradients differ in the last ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def worthwhile(x: Tensor) -> bool:
    """Whether `x` is in a training pass on a CPU. A GPU has kernels, and a compiler fuses."""
    return x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class RMSNorm(torch.autograd.Function):
    """y = x r w with r = 1 / sqrt(mean x^2 + eps) of each row; x (..., D), w (D,).

    dx = r (w dy - x r mean(dy w x r)), dw = sum of dy x r over the rows. Only x and r are kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        r = x.square().mean(dim=-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, r)
        return (x * r).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, r = ctx.saved_tensors
        (of_y,) = gradients
        normed = x * r
        along = of_y * normed
        of_weight = along.sum(dim=tuple(range(along.ndim - 1))) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None
        mean = (along @ weight)[..., None].div_(x.shape[-1])
        of_x = (of_y * weight).sub_(normed.mul_(mean)).mul_(r)
        return of_x, of_weight, None


class Rotation(torch.autograd.Function):
    """Each pair of channels (c, c + C/2) turned by an angle, whose gradient is turned back.

    x (..., T, C), cos and sin (T, C) or of more dimensions.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    half = x.shape[-1] // 2
    turned = x * cos
    # Not addcmul: that rounds once where the plain operations round twice.
    turned[..., :half].sub_(x[..., half:] * sin[..., :half], alpha=way)
    turned[..., half:].add_(x[..., :half] * sin[..., half:], alpha=way)
    return turned
