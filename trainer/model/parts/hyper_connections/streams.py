"""Manifold-constrained hyper-connections: n residual streams in place of one.

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
mHC-lite (Yang & Gao 2026, arXiv 2601.05732). Static maps are learned constants of each sub-layer,
as in the nanochat guide. (Its code computes H_res (s + h_post F), which is the same only while the
streams are equal.) Dynamic maps, as in both papers, add to the logits what each token's streams
say:

    logits = constants + gates * (maps rms_norm(s_1 ... s_n))

The start is a plain residual: h_post is 1 on average, and the mean of the streams is what a plain
model computes. It is not inert: h_post differs between the streams, so they separate, and h_pre
differs a little, so the mixing has a gradient from the first step on. (If h_post is the same for
all streams in every sub-layer, as in the guide, they stay equal: one scaled residual.) The first
H_res has no effect because the streams are equal there, and the last has none because only the mean
is used: these two are not trained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.sharded import put

if TYPE_CHECKING:
    from trainer.model.inference.cache import Cache
    from trainer.model.llama import Block
    from trainer.model.rotary import Rotary

#: n residual streams of (B, T, D).
Streams = tuple[Tensor, ...]

#: The parameter that H_res is computed from, by the number of streams: its name and size.
MIXING = {2: ("alpha_logit", 1), 4: ("res_logits", 24)}
SCALARS = ("pre_logits", "pre_bias", "post_logits", "post_bias")
#: Where training starts, by the number of streams: a stream keeps about 0.8 of itself.
_KEPT = {2: 1.4, 4: 4.5}  # alpha_logit; the logit of the identity
_POST = {1: (0.0,), 2: (1.0, -1.0), 4: (1.0, -1.0, 0.5, -0.5)}  # in pairs, so the mean is 1
_PRE = {1: 4.0, 2: 0.0, 4: -math.log(3)}  # the sum of h_pre is 1, or nearly
_PRE_DIFFERS = {1: (0.0,), 2: (0.01, -0.01), 4: (0.01, -0.01, -0.01, 0.01)}
_GATE = 0.01  # as in mHC
_MAPS_STD = 0.02


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


class Maps(NamedTuple):
    """h_pre (..., n), h_post (..., n) and H_res (..., n, n): of the sub-layer, or of each token."""

    pre: Tensor
    post: Tensor
    res: Tensor


class HyperConnection(nn.Module):
    """The connection of one sub-layer to the streams.

    With `width` D the maps depend on the streams. `mixes` says whether H_res has an effect: if not,
    its logits are not trained. With all parameters 0 it is a plain residual but for the norm's eps.
    """

    alpha_logit: Tensor
    res_logits: Tensor
    pre_logits: Tensor
    pre_bias: Tensor
    post_logits: Tensor
    post_bias: Tensor

    maps: Tensor
    gates: Tensor

    def __init__(self, streams: int, width: int | None = None, *, mixes: bool = True) -> None:
        super().__init__()
        self.streams = streams
        self.mixes = mixes and streams in MIXING
        mixing = 0
        if streams in MIXING:
            name, mixing = MIXING[streams]
            logits = nn.Parameter(torch.zeros(mixing), requires_grad=self.mixes)
            self.register_parameter(name, logits)
        for name in SCALARS:
            self.register_parameter(name, nn.Parameter(torch.zeros(streams)))
        self.dynamic = width is not None
        if width is not None:
            self._rows = (streams, streams, mixing) if self.mixes else (streams, streams)
            self.maps = nn.Parameter(torch.zeros(sum(self._rows), streams * width))
            self.gates = nn.Parameter(torch.zeros(len(self._rows)))

    def start(self, generator: torch.Generator) -> None:
        """Set the parameters to where training starts."""
        n = self.streams
        for name in SCALARS:
            self.get_parameter(name).zero_()
        self.pre_bias.copy_(torch.tensor(_PRE_DIFFERS[n]) + _PRE[n])
        self.post_bias.copy_(torch.tensor(_POST[n]))
        if n in MIXING:
            logits = self.get_parameter(MIXING[n][0])
            logits.zero_()
            if self.mixes:
                logits[0] = _KEPT[n]
        if self.dynamic:
            self.gates.fill_(_GATE)
            values = torch.empty(self.maps.shape).normal_(0.0, _MAPS_STD, generator=generator)
            put(self.maps, values)

    def maps_of(self, streams: Streams) -> Maps:
        """The three maps for these streams."""
        if not self.dynamic:
            return Maps(self.h_pre(), self.h_post(), self.h_res())
        flat = torch.cat(streams, dim=-1).to(self.maps.dtype)
        normed = F.rms_norm(flat, flat.shape[-1:], eps=1e-6)
        logits = F.linear(normed, self.maps).to(self.pre_bias.dtype)
        pre, post, *mixing = (
            gate * part
            for gate, part in zip(self.gates, logits.split(self._rows, dim=-1), strict=True)
        )
        res = self.h_res()
        if mixing:
            constants = self.get_parameter(MIXING[self.streams][0])
            res = mixing_matrix(self.streams, constants + mixing[0])
        return Maps(
            input_weights(self.pre_logits + pre, self.pre_bias),
            output_shares(self.post_logits + post, self.post_bias),
            res,
        )

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
        maps = self.maps_of(streams)
        y_BTD = sublayer(_weighted(maps.pre, streams))
        return tuple(
            _weighted(row, streams) + _for_width(taken) * y_BTD
            for row, taken in zip(maps.res.unbind(-2), maps.post.unbind(-1), strict=True)
        )


def _weighted(weights: Tensor, streams: Streams) -> Tensor:
    """sum_i w_i s_i. Not a matrix product: autocast would round the residual to bf16."""
    first, *others = weights.unbind(-1)
    total = _for_width(first) * streams[0]
    for weight, stream in zip(others, streams[1:], strict=True):
        total = total + _for_width(weight) * stream
    return total


def _for_width(weight: Tensor) -> Tensor:
    """A weight of each token (B, T) as (B, T, 1); a constant stays a scalar."""
    return weight[..., None] if weight.ndim else weight


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

    def __init__(
        self, block: Block, streams: int, width: int | None, *, first: bool, last: bool
    ) -> None:
        super().__init__()
        self.streams = streams
        self.last = last
        self.self_attn = block.self_attn
        self.mlp = block.mlp
        self.input_layernorm = block.input_layernorm
        self.post_attention_layernorm = block.post_attention_layernorm
        self.attn_hyper = HyperConnection(streams, width, mixes=not first)
        self.mlp_hyper = HyperConnection(streams, width, mixes=not last)

    def forward(self, x: Tensor | Streams, rotary: Rotary, cache: Cache | None) -> Tensor | Streams:
        streams = expand(x, self.streams) if isinstance(x, Tensor) else x
        streams = self.attn_hyper(
            streams, lambda x_BTD: self.self_attn(self.input_layernorm(x_BTD), rotary, cache)
        )
        streams = self.mlp_hyper(
            streams, lambda x_BTD: self.mlp(self.post_attention_layernorm(x_BTD))
        )
        return collapse(streams) if self.last else streams
