"""The loss of a linear output head, a piece of the tokens at a time: the logits are never whole.

The gradient of a sum of losses is known up to a factor as soon as the logits are. So the forward
pass computes it, piece by piece, and forgets the logits; the backward pass only multiplies. There
is no more arithmetic than in one piece, and less memory traffic.

A GPU multiplies matrices fast whose rows begin at multiples of some bytes, which those of an odd
vocabulary do not. So the copy of the matrix in the dtype of the products may have rows of zeros
behind it, and the gradient of the logits columns of zeros. Nothing else sees them: the loss is that
of the true vocabulary, and so are parameters, checkpoints and exports.

N tokens, D width, V vocabulary, P the vocabulary with what is added.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: A target with this value does not count, as in transformers.
IGNORED = -100


class Matrix(NamedTuple):
    """What a linear output head multiplies with: (V, D), and a bias (V,) or None."""

    weight: Tensor
    bias: Tensor | None


def matrix_of(head: object) -> Matrix | None:
    """The matrix of a head that is a plain linear layer, trained or frozen; None for any other."""
    if type(head) is nn.Linear or getattr(head, "transposed", None) is False:
        return Matrix(head.weight, head.bias)  # type: ignore[attr-defined]
    return None


class Factors(NamedTuple):
    """Those of the loss's terms: see `loss.Objective`."""

    label_smoothing: float
    z_loss: float


def summed_losses(
    matrix: Matrix,
    hidden_ND: Tensor,
    targets_N: Tensor,
    weights_N: Tensor | None,
    *,
    factors: Factors,
    piece: int,
    multiple: int = 0,
) -> Tensor:
    """The weighted sums of the minimized loss and of the plain cross-entropy, (2,) in fp32.

    `piece` tokens at a time, as with a vocabulary rounded up to a `multiple` (0: as it is). Only
    the first sum has a gradient, and for one backward pass only.
    """
    kind = hidden_ND.device.type
    narrow = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if narrow else hidden_ND.dtype
    total, plain = _Summed.apply(
        hidden_ND,
        *matrix,
        targets_N,
        weights_N,
        factors,
        piece,
        rounded_up(len(matrix.weight), multiple),
        dtype,
        torch.is_grad_enabled(),
    )
    return torch.stack([total, plain])


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - autograd calls it by position
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets_N: Tensor,
        weights_N: Tensor | None,
        factors: Factors,
        piece: int,
        padded: int,
        dtype: torch.dtype,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        wanted = wanted and any(ctx.needs_input_grad[:3])
        of_hidden = torch.empty_like(hidden_ND) if wanted and ctx.needs_input_grad[0] else None
        of_weight = _zeros(weight_VD) if wanted and ctx.needs_input_grad[1] else None
        of_bias = _zeros(bias_V) if wanted and bias_V is not None else None
        # Cast once. Autocast would do it for every piece, or keep what has no gradient.
        with torch.autocast(hidden_ND.device.type, enabled=False):
            size = len(weight_VD)
            weight_PD = _padded(weight_VD, padded, dtype)
            bias_P = None if bias_V is None else _padded(bias_V, padded, dtype)
            sums = torch.zeros(2, dtype=torch.float32, device=hidden_ND.device)
            for first in range(0, len(targets_N), piece):
                part = slice(first, first + piece)
                hidden = hidden_ND[part].to(dtype)
                weights = None if weights_N is None else weights_N[part]
                # The logits are the callee's alone, so that it can let them go.
                found, of_logits_KV = _piece(
                    F.linear(hidden, weight_PD, bias_P)[:, :size],
                    targets_N[part],
                    weights,
                    factors,
                    wanted,
                )
                sums += found
                if of_logits_KV is None:
                    continue
                if of_bias is not None:
                    of_bias += of_logits_KV.sum(dim=0, dtype=of_bias.dtype)
                of_logits_PK = _padded(of_logits_KV.T, padded, dtype)
                del of_logits_KV
                if of_hidden is not None:
                    of_hidden[part] = of_logits_PK.T @ weight_PD
                if of_weight is not None and dtype == torch.float32:
                    of_weight.addmm_(of_logits_PK[:size], hidden)
                elif of_weight is not None:
                    of_weight += (of_logits_PK @ hidden)[:size]
                del of_logits_PK  # or it would stay until the next piece has its own
        ctx.save_for_backward(of_hidden, of_weight, of_bias)
        total, plain = sums.unbind()
        ctx.mark_non_differentiable(plain)
        return total, plain

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        factor = gradients[0]
        # In place, so a second backward pass is refused by autograd.
        scaled = [None if x is None else x.mul_(factor) for x in ctx.saved_tensors]
        return (*scaled, None, None, None, None, None, None, None)


def rounded_up(vocabulary: int, multiple: int) -> int:
    """The vocabulary, or the next multiple."""
    return -(-vocabulary // multiple) * multiple if multiple else vocabulary


def _padded(rows: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """`rows` (V, …) in `dtype`, with zeros behind them up to `count`; their columns stay next to
    each other in memory if they are."""
    size = len(rows)
    if size == count:
        return rows.to(dtype)
    transposed = rows.ndim == 2 and rows.stride(0) == 1
    shape = (*reversed(rows.shape[1:]), count) if transposed else (count, *rows.shape[1:])
    found = rows.new_empty(shape, dtype=dtype)
    found = found.T if transposed else found
    found[:size].copy_(rows)
    found[size:].zero_()
    return found


def _piece(
    logits_KV: Tensor,
    targets_K: Tensor,
    weights_K: Tensor | None,
    factors: Factors,
    wanted: bool,
) -> tuple[Tensor, Tensor | None]:
    """Both sums over a piece of the tokens, (2,), and the gradient of the first, (K, V)."""
    smoothing, z = factors
    counts_K = targets_K != IGNORED
    weights_K = counts_K.float() if weights_K is None else counts_K * weights_K
    targets_K1 = targets_K.masked_fill(~counts_K, 0)[:, None]
    logits_KV = logits_KV.float()
    log_p_KV = F.log_softmax(logits_KV, dim=-1)
    plain_K = -log_p_KV.gather(1, targets_K1)[:, 0]
    loss_K = plain_K
    if smoothing:
        loss_K = torch.lerp(plain_K, -log_p_KV.mean(dim=-1), smoothing)
    slope_K = weights_K
    if z:
        log_sum_K = logits_KV.gather(1, targets_K1)[:, 0] + plain_K
        loss_K = loss_K + z * log_sum_K.square()
        slope_K = weights_K * (1 + 2 * z * log_sum_K)
    sums = torch.stack([(loss_K * weights_K).sum(), (plain_K * weights_K).sum()])
    if not wanted:
        return sums, None
    # d loss / d logit_v = p_v (1 + 2 z log Z) - (1 - e) [v is the target] - e / V
    del logits_KV
    of_logits_KV = log_p_KV.exp_().mul_(slope_K[:, None])
    at_target_K1 = (-(1 - smoothing) * weights_K)[:, None]
    of_logits_KV.scatter_add_(1, targets_K1, at_target_K1)
    if smoothing:
        of_logits_KV -= (smoothing / log_p_KV.shape[-1] * weights_K)[:, None]
    return sums, of_logits_KV


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros_like(like, dtype=torch.float32)
