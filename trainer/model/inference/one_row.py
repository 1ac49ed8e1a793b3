"""Sub-layers for one token at a time, as one client decodes.

Reading the weights takes nearly all of that time, and what is left is the number of operations:
each costs some microseconds, whatever its size. So a single row is computed with vectors, in
buffers made once; everything else is left to the module whose place a sub-layer takes.

Shapes: D width, H heads, K key-value heads, G = H / K, C channels of a head, N = H + K.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.model import gpt2, llama
from trainer.model.dimensions import Dimensions
from trainer.model.inference.cache import Cache, KeyValueCache
from trainer.model.inference.linears import row_layer
from trainer.model.inference.slot_cache import SlotCache
from trainer.model.rotary import Rotary


class OneRow:
    """Makes the sub-layers of one model; `like` has the type of its activations."""

    def __init__(self, n: Dimensions, like: Tensor) -> None:
        self._n = n
        self._like = like
        self._rotation = _Rotation()

    def of(self, module: nn.Module) -> nn.Module | None:
        """The sub-layer in the place of `module`; None where there is none."""
        match module:
            case llama.Attention():
                return _LlamaAttention(module, self._heads(), self._rotation)
            case gpt2.Attention():
                return _Gpt2Attention(module, self._heads())
            case llama.FeedForward():
                return _LlamaFeedForward(module, self._buffer(2 * self._n.F))
            case gpt2.FeedForward():
                return _Gpt2FeedForward(module, self._buffer(self._n.F))
        return None

    def _heads(self) -> _Heads:
        n = self._n
        return _Heads(self._buffer((n.H + 2 * n.K) * n.C), n.H, n.K, n.C)

    def _buffer(self, size: int) -> Tensor:
        # Outside of inference mode, so that it can be written in any mode.
        with torch.inference_mode(False), torch.no_grad():
            return torch.empty(size, dtype=self._like.dtype, device=self._like.device)


class _Heads:
    """Queries, keys and values of one token, one after another in one buffer."""

    def __init__(self, buffer: Tensor, H: int, K: int, C: int) -> None:
        self.all = buffer
        self.q, self.k, self.v = buffer.split([H * C, K * C, K * C])
        self.turning_NC = buffer[: (H + K) * C].view(H + K, C)
        self._q_1KGC = self.q.view(1, K, H // K, C)
        self._both_2KC = buffer[H * C :].view(2, K, C)

    def attend(self, layer: int, cache: KeyValueCache | SlotCache) -> Tensor:
        """What the heads found, end to end, (H C,)."""
        return cache.newest().attend(layer, self._q_1KGC, self._both_2KC).reshape(-1)


class _Rotation:
    """Positions turned into the queries and keys of one token."""

    def __init__(self) -> None:
        self._of: Rotary | None = None
        self._sin_1C = torch.empty(0)

    def turn_(self, x_NC: Tensor, rotary: Rotary) -> None:
        """Turn each pair of channels (c, c + C/2), in place, as `llama.rotate` does."""
        half = x_NC.shape[-1] // 2
        if rotary is not self._of:  # once for all layers
            sin = rotary[1]
            self._sin_1C = torch.cat((-sin[..., :half], sin[..., half:]), dim=-1)
            self._of = rotary
        swapped = x_NC.roll(half, -1)
        torch.addcmul(x_NC * rotary[0], swapped, self._sin_1C, out=x_NC)


def _is_row(x_BTD: Tensor) -> bool:
    return x_BTD.numel() == x_BTD.shape[-1]


class _LlamaAttention(nn.Module):
    """`llama.Attention`."""

    def __init__(self, module: llama.Attention, heads: _Heads, rotation: _Rotation) -> None:
        super().__init__()
        self.module = module
        self._heads = heads
        self._rotation = rotation
        self._q, self._k, self._v, self._o = (
            row_layer(layer)
            for layer in (module.q_proj, module.k_proj, module.v_proj, module.o_proj)
        )
        self._normed = isinstance(module.q_norm, llama.RMSNorm)

    def forward(self, x_BTD: Tensor, rotary: Rotary, cache: Cache | None) -> Tensor:
        if not (isinstance(cache, KeyValueCache | SlotCache) and _is_row(x_BTD)):
            return self.module(x_BTD, rotary, cache)
        heads, x_D = self._heads, x_BTD.view(-1)
        self._q.row(x_D, heads.q)
        self._k.row(x_D, heads.k)
        self._v.row(x_D, heads.v)
        if self._normed:
            C = self.module.channels
            for part, norm in ((heads.q, self.module.q_norm), (heads.k, self.module.k_norm)):
                part_NC = part.view(-1, C)
                part_NC.copy_(norm(part_NC))
        self._rotation.turn_(heads.turning_NC, rotary)
        return self._o.row(heads.attend(self.module.layer, cache)).view(x_BTD.shape)


class _Gpt2Attention(nn.Module):
    """`gpt2.Attention`."""

    def __init__(self, module: gpt2.Attention, heads: _Heads) -> None:
        super().__init__()
        self.module = module
        self._heads = heads
        self._in, self._out = row_layer(module.c_attn), row_layer(module.c_proj)

    def forward(self, x_BTD: Tensor, cache: Cache | None) -> Tensor:
        if not (isinstance(cache, KeyValueCache | SlotCache) and _is_row(x_BTD)):
            return self.module(x_BTD, cache)
        self._in.row(x_BTD.view(-1), self._heads.all)
        y_D = self._out.row(self._heads.attend(self.module.layer, cache))
        return y_D.view(x_BTD.shape)


class _LlamaFeedForward(nn.Module):
    """`llama.FeedForward`."""

    def __init__(self, module: llama.FeedForward, buffer: Tensor) -> None:
        super().__init__()
        self.module = module
        self._gated, self._raised = buffer.chunk(2)
        self._gate, self._up, self._down = (
            row_layer(layer) for layer in (module.gate_proj, module.up_proj, module.down_proj)
        )

    def forward(self, x_BTD: Tensor) -> Tensor:
        if not _is_row(x_BTD):
            return self.module(x_BTD)
        x_D = x_BTD.view(-1)
        gated_F = self._gate.row(x_D, self._gated)
        F.silu(gated_F, inplace=True).mul_(self._up.row(x_D, self._raised))
        return self._down.row(gated_F).view(x_BTD.shape)


class _Gpt2FeedForward(nn.Module):
    """`gpt2.FeedForward`."""

    def __init__(self, module: gpt2.FeedForward, buffer: Tensor) -> None:
        super().__init__()
        self.module = module
        self._raised = buffer
        self._in, self._out = row_layer(module.c_fc), row_layer(module.c_proj)

    def forward(self, x_BTD: Tensor) -> Tensor:
        if not _is_row(x_BTD):
            return self.module(x_BTD)
        raised_F = self._in.row(x_BTD.view(-1), self._raised)
        return self._out.row(F.gelu(raised_F, approximate="tanh")).view(x_BTD.shape)
