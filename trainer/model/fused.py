"""Operations with gradients of their own: fewer passes over memory than autograd's on a CPU.

Norm and rotation have the results of the plain operations, bit by bit; their gradients, and all of
GELU, differ in the last ones.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

#: GELU by its tanh approximation is x sigmoid(v), v = x (A + B x^2).
_A = 2 * math.sqrt(2 / math.pi)
_B = 0.044715 * _A
#: Numbers that go through all operations of GELU before the next ones: they stay in the cache.
_PIECE = 1 << 15


def worthwhile(x: Tensor) -> bool:
    """Whether `x` is in a training pass on a CPU. A GPU has kernels, and a compiler fuses."""
    return torch.is_grad_enabled() and is_eager_on_cpu(x)


def is_eager_on_cpu(x: Tensor) -> bool:
    """Whether `x` is computed by single operations on a CPU."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


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


def gelu(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, of a contiguous `x` on a CPU, which is used up.

    torch's kernel computes tanh slowly: this takes 0.6 of its time, forward and backward together
    (AVX2, docs/experiments.md).
    """
    y: Tensor = GELU.apply(x, torch.is_grad_enabled() and x.requires_grad)
    return y


class GELU(torch.autograd.Function):
    """y = x sigmoid(v); the slope dy/dx takes the place of x, so that dx = dy slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, with_slope: bool) -> Tensor:
        y = torch.empty_like(x)
        if with_slope:
            ctx.save_for_backward(x)
        numbers, results = x.view(-1), y.view(-1)
        kind = x.dtype if x.dtype == torch.float64 else torch.float32
        a = torch.tensor(_A, dtype=kind)
        room = torch.empty(3, min(_PIECE, len(numbers)), dtype=kind)
        for first in range(0, len(numbers), _PIECE):
            given = numbers[first : first + _PIECE]
            piece, s, slope = room[:, : len(given)]
            if given.dtype == kind:
                piece = given
            else:
                piece.copy_(given)
            torch.addcmul(a, piece, piece, value=_B, out=s)
            s.mul_(piece).sigmoid_()
            torch.mul(piece, s, out=results[first : first + _PIECE])
            if with_slope:  # s + x s (1 - s) dv/dx
                torch.addcmul(a, piece, piece, value=3 * _B, out=slope)
                slope.mul_(piece)
                torch.ops.aten.sigmoid_backward.grad_input(slope, s, grad_input=piece)
                given.copy_(piece.add_(s))
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None
