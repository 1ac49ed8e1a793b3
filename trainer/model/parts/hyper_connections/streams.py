"""Static manifold-constrained hyper-connections: n residual streams in place of one.

Shapes: B batch, T positions, D width, n streams s_1 to s_n of (B, T, D) each. The embedding is
copied into every stream. A sub-layer F (attention or feed-forward, with its norm) reads a weighted
sum of the streams; the streams are mixed, and each adds a share of the output. At the end their
mean is used:

    s_i = x                                          expand
    s'  = H_res s + h_post F(sum_i h_pre,i s_i)      every sub-layer
    x   = mean_i s_i                                 collapse

    h_pre  = sigmoid(pre_logits + pre_bias)          (n,)
    h_post = 2 sigmoid(post_logits + post_bias)      (n,)
    H_res  = [1]                                     n = 1
             [[a, 1-a], [1-a, a]], a = sigmoid(alpha_logit)                   n = 2
             sum_p softmax(res_logits)_p P_p over the 24 permutations of 4    n = 4

The permutations are in lexicographic order; row i of P_p has its 1 in column p(i). So H_res is
doubly stochastic for any logits, and a product of many never amplifies the streams.

The update is that of mHC (Xie et al. 2025, arXiv 2512.24880), with H_res made of permutations as in
mHC-lite (Yang & Gao 2026, arXiv 2601.05732). Both compute the maps from the input; here they are
learned constants of each sub-layer, as in the nanochat guide. (Its code computes
H_res (s + h_post F), which is the same only while the streams are equal.) If h_post is the same for
all streams in every sub-layer, the streams stay equal, and the model is one scaled residual. The
first H_res has no effect because the streams are equal there, and the last has none because only
the mean is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from trainer.model.inference.cache import Cache
    from trainer.model.llama import Block, Rotary

#: n residual streams of (B, T, D).
Streams = tuple[Tensor, ...]

#: The parameter that H_res is computed from, by the number of streams: its name and size.
MIXING = {2: ("alpha_logit", 1), 4: ("res_logits", 24)}
SCALARS = ("pre_logits", "pre_bias", "post_logits", "post_bias")


def input_weights(logits: Tensor, bias: Tensor) -> Tensor:
    """h_pre, the weight of each stream in a sub-layer's input: (..., n) in (0, 1)."""
    return torch.sigmoid(logits + bias)


def output_shares(logits: Tensor, bias: Tensor) -> Tensor:
    """h_post, the share of a sub-layer's output added to each stream: (..., n) in (0, 2)."""
    return 2 * torch.sigmoid(logits + bias)


def mixing_matrix(streams: int, mixing: Tensor) -> Tensor:
    """H_res, the mixing matrix: (..., n, n) from alpha_logit (..., 1) or res_logits (..., 24)."""
    if streams == 2:
        kept = torch.sigmoid(mixing)
        rows = (torch.cat((kept, 1 - kept), dim=-1), torch.cat((1 - kept, kept), dim=-1))
        return torch.stack(rows, dim=-2)
    columns = torch.tensor(list(itertools.permutations(range(4))), device=mixing.device)
    permutations = nn.functional.one_hot(columns, 4).to(mixing.dtype)
    weights = torch.softmax(mixing, dim=-1)
    return (weights[..., None, None] * permutations).sum(dim=-3)


class HyperConnection(nn.Module):
    """The connection of one sub-layer to the streams.

    With all parameters 0 it is a plain residual except for the norm's eps.
    """

    alpha_logit: Tensor
    res_logits: Tensor
    pre_logits: Tensor
    pre_bias: Tensor
    post_logits: Tensor
    post_bias: Tensor

    def __init__(self, streams: int) -> None:
        super().__init__()
        self.streams = streams
        if streams in MIXING:
            name, count = MIXING[streams]
            self.register_parameter(name, nn.Parameter(torch.zeros(count)))
        for name in SCALARS:
            self.register_parameter(name, nn.Parameter(torch.zeros(streams)))

    def h_pre(self) -> Tensor:
        """The weight of each stream in the input, (n,)."""
        return input_weights(self.pre_logits, self.pre_bias)

    def h_post(self) -> Tensor:
        """The share of the output added to each stream, (n,)."""
        return output_shares(self.post_logits, self.post_bias)

    def h_res(self) -> Tensor:
        """The mixing matrix of the streams, (n, n)."""
        if self.streams == 1:
            return torch.ones_like(self.pre_bias)[None]
        name, _ = MIXING[self.streams]
        return mixing_matrix(self.streams, getattr(self, name))

    def forward(self, streams: Streams, sublayer: Callable[[Tensor], Tensor]) -> Streams:
        """The streams after the sub-layer, which maps (B, T, D) to (B, T, D)."""
        y_BTD = sublayer(_weighted(self.h_pre(), streams))
        return tuple(
            _weighted(row, streams) + taken * y_BTD
            for row, taken in zip(self.h_res(), self.h_post(), strict=True)
        )


def _weighted(weights: Tensor, streams: Streams) -> Tensor:
    """sum_i w_i s_i. Not a matrix product: autocast would round the residual to bf16."""
    total = weights[0] * streams[0]
    for weight, stream in zip(weights[1:], streams[1:], strict=True):
        total = total + weight * stream
    return total


def expand(x_BTD: Tensor, streams: int) -> Streams:
    """The same values in every stream."""
    return (x_BTD,) * streams


def collapse(streams: Streams) -> Tensor:
    """The mean of the streams, (B, T, D)."""
    return sum(streams[1:], streams[0]) / len(streams)


class HyperBlock(nn.Module):
    """A block whose sub-layers read from residual streams and write to them.

    The first one makes streams of (B, T, D), and the `last` one gives (B, T, D) back, so that the
    body around them knows of no streams.
    """

    def __init__(self, block: Block, streams: int, *, last: bool) -> None:
        super().__init__()
        self.streams = streams
        self.last = last
        self.self_attn = block.self_attn
        self.mlp = block.mlp
        self.input_layernorm = block.input_layernorm
        self.post_attention_layernorm = block.post_attention_layernorm
        self.attn_hyper = HyperConnection(streams)
        self.mlp_hyper = HyperConnection(streams)

    def forward(self, x: Tensor | Streams, rotary: Rotary, cache: Cache | None) -> Tensor | Streams:
        streams = expand(x, self.streams) if isinstance(x, Tensor) else x
        streams = self.attn_hyper(
            streams, lambda x_BTD: self.self_attn(self.input_layernorm(x_BTD), rotary, cache)
        )
        streams = self.mlp_hyper(
            streams, lambda x_BTD: self.mlp(self.post_attention_layernorm(x_BTD))
        )
        return collapse(streams) if self.last else streams
