"""Blocks for one token at a time, as one client decodes.

Reading the weights takes nearly all of that time, and what is left is the number of operations:
each costs about a microsecond, whatever its size, and a call of a module two. So a single row is
computed with vectors, in buffers made once; everything else is left to the module whose place a
block or a sub-layer takes.

Shapes: D width, H heads, K key-value heads, G = H / K, C channels of a head, N = H + K.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.model import gpt2, llama
from trainer.model.dimensions import Dimensions
from trainer.model.inference.cache import Cache, KeyValueCache
from trainer.model.inference.linears import row_layer
from trainer.model.inference.slot_cache import SlotCache
from trainer.model.rotary import Rotary

Stored: TypeAlias = KeyValueCache | SlotCache
NormRow: TypeAlias = Callable[[Tensor], Tensor]


class OneRow:
    """Makes the blocks and sub-layers of one model, which computes in the type of `like`."""

    def __init__(self, n: Dimensions, like: Tensor) -> None:
        self._n = n
        self._like = like
        self._rotation = _Rotation(n.C)

    def of(self, module: nn.Module) -> nn.Module | None:
        """What takes the place of `module`; None where nothing does.

        The modules in it have been replaced before.
        """
        n = self._n
        match module:
            case llama.Attention():
                return _LlamaAttention(module, self._heads(), self._rotation)
            case gpt2.Attention():
                return _Gpt2Attention(module, self._heads())
            case llama.FeedForward():
                return _LlamaFeedForward(module, self._buffer(2 * n.F))
            case gpt2.FeedForward():
                return _Gpt2FeedForward(module, self._buffer(n.F))
            case llama.Block():
                return _LlamaBlock(module)
            case gpt2.Block():
                return _Gpt2Block(module)
        return None

    def _heads(self) -> _Heads:
        n = self._n
        return _Heads(self._buffer((n.H + 2 * n.K) * n.C), n.H, n.K, n.C)

    def _buffer(self, size: int) -> Tensor:
        # Outside of inference mode, so that it can be written in any mode.
        with torch.inference_mode(False), torch.no_grad():
            return torch.empty(size, dtype=self._like.dtype, device=self._like.device)


def _is_row(x_BTD: Tensor) -> bool:
    return x_BTD.numel() == x_BTD.shape[-1]


class _Heads:
    """Queries, keys and values of one token, one after another in one buffer."""

    def __init__(self, buffer: Tensor, H: int, K: int, C: int) -> None:
        self.all = buffer
        self.q, self.k, self.v = buffer.split([H * C, K * C, K * C])
        self.turning_NC = buffer[: (H + K) * C].view(H + K, C)
        self.q_HC, self.k_KC = self.turning_NC.split([H, K])
        self._q_1KGC = self.q.view(1, K, H // K, C)
        self._both_2KC = buffer[H * C :].view(2, K, C)

    def attend(self, layer: int, cache: Stored) -> Tensor:
        """What the heads found, end to end, (H C,)."""
        return cache.newest().attend(layer, self._q_1KGC, self._both_2KC).reshape(-1)


class _Rotation:
    """Turns queries and keys of one token by its position, in place, as `llama.rotate` does."""

    def __init__(self, channels: int) -> None:
        half = channels // 2
        self._half = half
        self._swapped = torch.arange(channels).roll(half)
        self._of: Rotary | None = None
        self._sin_1C = torch.empty(0)

    def turn_(self, x_NC: Tensor, rotary: Rotary) -> None:
        """Each pair of channels (c, c + C/2)."""
        if rotary is not self._of:  # once for all layers
            sin = rotary[1]
            self._sin_1C = torch.cat((-sin[..., : self._half], sin[..., self._half :]), dim=-1)
            self._of = rotary
        swapped_NC = x_NC.index_select(-1, self._swapped)
        torch.addcmul(x_NC * rotary[0], swapped_NC, self._sin_1C, out=x_NC)


class _LlamaAttention(nn.Module):
    """`llama.Attention`."""

    def __init__(self, module: llama.Attention, heads: _Heads, rotation: _Rotation) -> None:
        super().__init__()
        self.module = module
        self._layer = module.layer
        self._heads = heads
        self._rotation = rotation
        self._q, self._k, self._v = (
            row_layer(layer).row for layer in (module.q_proj, module.k_proj, module.v_proj)
        )
        self._o = row_layer(module.o_proj)
        norms = module.q_norm, module.k_norm
        self._gains: tuple[Tensor, Tensor] | None = None
        if isinstance(norms[0], llama.RMSNorm) and isinstance(norms[1], llama.RMSNorm):
            self._gains = norms[0].weight.detach(), norms[1].weight.detach()
            self._eps = norms[0].eps

    def forward(self, x_BTD: Tensor, rotary: Rotary, cache: Cache | None) -> Tensor:
        if not (isinstance(cache, Stored) and _is_row(x_BTD)):
            return self.module(x_BTD, rotary, cache)
        found_D = self.found(x_BTD.view(-1), rotary, cache)
        return self._o.row(found_D).view(x_BTD.shape)

    def onto(self, base_D: Tensor, x_D: Tensor, rotary: Rotary, cache: Stored) -> Tensor:
        """`base_D` and the attention of the token, added."""
        return self._o.onto(base_D, self.found(x_D, rotary, cache))

    def found(self, x_D: Tensor, rotary: Rotary, cache: Stored) -> Tensor:
        """What the heads found, (H C,)."""
        heads = self._heads
        self._q(x_D, heads.q)
        self._k(x_D, heads.k)
        self._v(x_D, heads.v)
        if self._gains is not None:
            self._norm_(heads, *self._gains)
        self._rotation.turn_(heads.turning_NC, rotary)
        return heads.attend(self._layer, cache)

    def _norm_(self, heads: _Heads, q_gain_C: Tensor, k_gain_C: Tensor) -> None:
        rows_NC = heads.turning_NC
        normed_NC = torch.rms_norm(rows_NC, rows_NC.shape[-1:], None, self._eps)
        q_HC, k_KC = normed_NC.split((heads.q_HC.shape[0], heads.k_KC.shape[0]))
        torch.mul(q_HC, q_gain_C, out=heads.q_HC)
        torch.mul(k_KC, k_gain_C, out=heads.k_KC)


class _Gpt2Attention(nn.Module):
    """`gpt2.Attention`."""

    def __init__(self, module: gpt2.Attention, heads: _Heads) -> None:
        super().__init__()
        self.module = module
        self._layer = module.layer
        self._heads = heads
        self._in, self._out = row_layer(module.c_attn).row, row_layer(module.c_proj).onto

    def forward(self, x_BTD: Tensor, cache: Cache | None) -> Tensor:
        return self.module(x_BTD, cache)

    def onto(self, base_D: Tensor, x_D: Tensor, cache: Stored) -> Tensor:
        """`base_D` and the attention of the token, added."""
        self._in(x_D, self._heads.all)
        return self._out(base_D, self._heads.attend(self._layer, cache))


class _LlamaFeedForward(nn.Module):
    """`llama.FeedForward`."""

    def __init__(self, module: llama.FeedForward, buffer: Tensor) -> None:
        super().__init__()
        self.module = module
        self._gated_F, self._raised_F = buffer.chunk(2)
        self._gate, self._up = row_layer(module.gate_proj).row, row_layer(module.up_proj).row
        self._down = row_layer(module.down_proj)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if not _is_row(x_BTD):
            return self.module(x_BTD)
        return self._down.row(self._inner(x_BTD.view(-1))).view(x_BTD.shape)

    def onto(self, base_D: Tensor, x_D: Tensor) -> Tensor:
        """`base_D` and the output, added."""
        return self._down.onto(base_D, self._inner(x_D))

    def _inner(self, x_D: Tensor) -> Tensor:
        gated_F = F.silu(self._gate(x_D, self._gated_F), inplace=True)
        return gated_F.mul_(self._up(x_D, self._raised_F))


class _Gpt2FeedForward(nn.Module):
    """`gpt2.FeedForward`."""

    def __init__(self, module: gpt2.FeedForward, buffer: Tensor) -> None:
        super().__init__()
        self.module = module
        self._raised_F = buffer
        self._in, self._out = row_layer(module.c_fc).row, row_layer(module.c_proj).onto

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.module(x_BTD)

    def onto(self, base_D: Tensor, x_D: Tensor) -> Tensor:
        """`base_D` and the output, added."""
        raised_F = self._in(x_D, self._raised_F)
        return self._out(base_D, F.gelu(raised_F, approximate="tanh"))


class _LlamaBlock(nn.Module):
    """`llama.Block`."""

    def __init__(self, module: llama.Block) -> None:
        super().__init__()
        self.module = module
        attention, feed_forward = module.self_attn, module.mlp
        assert isinstance(attention, _LlamaAttention)
        assert isinstance(feed_forward, _LlamaFeedForward)
        self._attention, self._feed_forward = attention.onto, feed_forward.onto
        self._norm_1 = _rms_norm_row(module.input_layernorm)
        self._norm_2 = _rms_norm_row(module.post_attention_layernorm)

    def forward(self, x_BTD: Tensor, rotary: Rotary, cache: Cache | None) -> Tensor:
        if not (isinstance(cache, Stored) and _is_row(x_BTD)):
            return self.module(x_BTD, rotary, cache)
        x_D = x_BTD.view(-1)
        x_D = self._attention(x_D, self._norm_1(x_D), rotary, cache)
        return self._feed_forward(x_D, self._norm_2(x_D)).view(x_BTD.shape)


class _Gpt2Block(nn.Module):
    """`gpt2.Block`."""

    def __init__(self, module: gpt2.Block) -> None:
        super().__init__()
        self.module = module
        attention, feed_forward = module.attn, module.mlp
        assert isinstance(attention, _Gpt2Attention)
        assert isinstance(feed_forward, _Gpt2FeedForward)
        self._attention, self._feed_forward = attention.onto, feed_forward.onto
        self._norm_1, self._norm_2 = _layer_norm_row(module.ln_1), _layer_norm_row(module.ln_2)

    def forward(self, x_BTD: Tensor, cache: Cache | None) -> Tensor:
        if not (isinstance(cache, Stored) and _is_row(x_BTD)):
            return self.module(x_BTD, cache)
        x_D = x_BTD.view(-1)
        x_D = self._attention(x_D, self._norm_1(x_D), cache)
        return self._feed_forward(x_D, self._norm_2(x_D)).view(x_BTD.shape)


def _rms_norm_row(module: llama.RMSNorm) -> NormRow:
    """`module` for a vector; torch's own norm takes six operations on a CPU."""
    weight_D, eps = module.weight.detach(), module.eps
    D, zero = weight_D.numel(), torch.zeros((), dtype=weight_D.dtype)

    def row(x_D: Tensor) -> Tensor:
        mean = torch.dot(x_D, x_D).item() / D
        return torch.addcmul(zero, x_D, weight_D, value=1.0 / math.sqrt(mean + eps))

    return row


def _layer_norm_row(module: nn.LayerNorm) -> NormRow:
    """`module` for a vector, without the cost of calling it."""
    weight_D, bias_D = module.weight.detach(), module.bias.detach()
    shape, eps = module.normalized_shape, module.eps
    return lambda x_D: torch.layer_norm(x_D, shape, weight_D, bias_D, eps)
