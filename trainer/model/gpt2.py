"""The GPT-2 shape (Radford et al. 2019): LayerNorm, learned positions, GELU, biases, dropout.

Module names and weight layouts follow transformers. B batch, T positions, D width, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config.model import ModelConfig
from trainer.model import fused
from trainer.model.attention import causal_attention
from trainer.model.dimensions import Dimensions, dimensions
from trainer.model.inference.cache import Cache
from trainer.model.recomputation import KEEP_ALL


class Affine(nn.Module):
    """x @ weight + bias with the weight stored (in, out), as GPT-2 checkpoints store it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], -1)


class Attention(nn.Module):
    """Multi-head attention, one matrix for queries, keys and values."""

    def __init__(self, model: ModelConfig, n: Dimensions, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.channels = n.C
        self.dropout = model.dropout
        self.c_attn = Affine(n.D, 3 * n.D)
        self.c_proj = Affine(n.D, n.D)

    def forward(self, x_BTD: Tensor, cache: Cache | None) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (
            y.view(B, T, -1, self.channels).transpose(1, 2)
            for y in self.c_attn(x_BTD).split(D, dim=2)
        )
        if cache is None:
            y_BHTC = causal_attention(q, k, v, dropout=self.dropout if self.training else 0.0)
        else:
            y_BHTC = cache.attend(self.layer, q, k, v)
        assert y_BHTC.shape == q.shape
        y_BTD = self.c_proj(y_BHTC.transpose(1, 2).reshape(B, T, D))
        return F.dropout(y_BTD, self.dropout, self.training)


class FeedForward(nn.Module):
    """c_proj(gelu(c_fc(x))), GELU by its tanh approximation as in GPT-2."""

    def __init__(self, model: ModelConfig, n: Dimensions) -> None:
        super().__init__()
        self.dropout = model.dropout
        self.c_fc = Affine(n.D, n.F)
        self.c_proj = Affine(n.F, n.D)

    def forward(self, x_BTD: Tensor) -> Tensor:
        h_BTF = self.c_fc(x_BTD)
        # Also where a training pass is computed without gradients, to be computed again.
        own = self.training and fused.is_eager_on_cpu(h_BTF) and h_BTF.is_contiguous()
        y_BTD = self.c_proj(fused.gelu(h_BTF) if own else F.gelu(h_BTF, approximate="tanh"))
        return F.dropout(y_BTD, self.dropout, self.training)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, model: ModelConfig, n: Dimensions, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(n.D, model.norm_eps)
        self.attn = Attention(model, n, layer)
        self.ln_2 = nn.LayerNorm(n.D, model.norm_eps)
        self.mlp = FeedForward(model, n)

    def forward(self, x_BTD: Tensor, cache: Cache | None) -> Tensor:
        x_BTD = x_BTD + self.attn(self.ln_1(x_BTD), cache)
        return x_BTD + self.mlp(self.ln_2(x_BTD))


class GPT2Body(nn.Module):
    """Token ids to final normed hidden states."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        n = dimensions(model)
        self.dropout = model.dropout
        self.recomputation = KEEP_ALL
        self.wte = nn.Embedding(n.V, n.D)
        self.wpe = nn.Embedding(n.T, n.D)
        self.h = nn.ModuleList(Block(model, n, i) for i in range(n.L))
        self.ln_f = nn.LayerNorm(n.D, model.norm_eps)

    def forward(self, ids_BT: Tensor, cache: Cache | None = None) -> Tensor:
        T = ids_BT.shape[1]
        assert cache or self.wpe.num_embeddings >= T, "the sequence is longer than max_seq_len"
        if cache is None:
            places_TD = self.wpe(torch.arange(T, device=ids_BT.device))
        else:
            places_TD = cache.rows(self.wpe.weight, T)
        x_BTD = self.wte(ids_BT) + places_TD
        x_BTD = F.dropout(x_BTD, self.dropout, self.training)
        x_BTD = self.recomputation.through(self.h, x_BTD, cache)
        if cache is not None:
            cache.advance(T)
        return self.ln_f(x_BTD)
