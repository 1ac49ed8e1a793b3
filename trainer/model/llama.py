"""The Llama shape (Touvron et al. 2023): pre-RMSNorm, rotary positions, grouped heads, SwiGLU.

With `qk_norm` it is Qwen3's, with `attention_bias` a Qwen2 or a Llama with biases. Dropout acts in
training only, at the places of the gpt2 flavour. Module names follow transformers, so state dicts
are interchangeable.
Shapes: B batch, T positions, D width, H heads, K key-value heads, C channels of a head.
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
from trainer.model.rotary import Rotary, rotary_table


class RMSNorm(nn.Module):
    """x / rms(x) * weight, in fp32 at least (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        if fused.worthwhile(wide):
            y: Tensor = fused.RMSNorm.apply(wide, self.weight, self.eps)
            return y.to(x.dtype)
        return F.rms_norm(wide, self.weight.shape, self.weight, self.eps).to(x.dtype)


def rotate(x_BHTC: Tensor, rotary: Rotary) -> Tensor:
    """Rotate each channel pair (c, c + C/2) by its position's angle (Su et al. 2021)."""
    cos, sin = (table.unsqueeze(-3) for table in rotary)  # the same for all heads
    if fused.worthwhile(x_BHTC):
        y: Tensor = fused.Rotation.apply(x_BHTC, cos, sin)
        return y.to(x_BHTC.dtype)
    half = x_BHTC.shape[-1] // 2
    turned = torch.cat((-x_BHTC[..., half:], x_BHTC[..., :half]), dim=-1)
    return (x_BHTC * cos + turned * sin).to(x_BHTC.dtype)


class Attention(nn.Module):
    """Multi-head attention with grouped key-value heads."""

    def __init__(self, model: ModelConfig, n: Dimensions, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.channels = n.C
        self.dropout = model.dropout
        biased = model.attention_bias != "none"
        self.q_proj = nn.Linear(n.D, n.H * n.C, bias=biased)
        self.k_proj = nn.Linear(n.D, n.K * n.C, bias=biased)
        self.v_proj = nn.Linear(n.D, n.K * n.C, bias=biased)
        self.o_proj = nn.Linear(n.H * n.C, n.D, bias=model.attention_bias == "all")
        self.q_norm = RMSNorm(n.C, model.norm_eps) if model.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(n.C, model.norm_eps) if model.qk_norm else nn.Identity()

    def forward(self, x_BTD: Tensor, rotary: Rotary, cache: Cache | None) -> Tensor:
        B, T, _ = x_BTD.shape
        heads = (B, T, -1, self.channels)
        q = self.q_norm(self.q_proj(x_BTD).view(heads)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x_BTD).view(heads)).transpose(1, 2)
        v = self.v_proj(x_BTD).view(heads).transpose(1, 2)
        q, k = rotate(q, rotary), rotate(k, rotary)
        if cache is None:
            y_BHTC = causal_attention(q, k, v, dropout=self.dropout if self.training else 0.0)
        else:
            y_BHTC = cache.attend(self.layer, q, k, v)
        assert y_BHTC.shape == q.shape
        y_BTD = self.o_proj(y_BHTC.transpose(1, 2).reshape(B, T, -1))
        return F.dropout(y_BTD, self.dropout, self.training)


class FeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(self, model: ModelConfig, n: Dimensions) -> None:
        super().__init__()
        self.dropout = model.dropout
        self.gate_proj = nn.Linear(n.D, n.F, bias=False)
        self.up_proj = nn.Linear(n.D, n.F, bias=False)
        self.down_proj = nn.Linear(n.F, n.D, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        y_BTD = self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return F.dropout(y_BTD, self.dropout, self.training)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, model: ModelConfig, n: Dimensions, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(model, n, layer)
        self.mlp = FeedForward(model, n)
        self.input_layernorm = RMSNorm(n.D, model.norm_eps)
        self.post_attention_layernorm = RMSNorm(n.D, model.norm_eps)

    def forward(self, x_BTD: Tensor, rotary: Rotary, cache: Cache | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotary, cache)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class LlamaBody(nn.Module):
    """Token ids to final normed hidden states."""

    cos: Tensor
    sin: Tensor

    def __init__(self, model: ModelConfig) -> None:
        super().__init__()
        n = dimensions(model)
        self.dropout = model.dropout
        self.recomputation = KEEP_ALL
        self.embed_tokens = nn.Embedding(n.V, n.D)
        self.layers = nn.ModuleList(Block(model, n, i) for i in range(n.L))
        self.norm = RMSNorm(n.D, model.norm_eps)
        cos, sin = rotary_table(model, n.T, n.C)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def rotary(self, T: int, cache: Cache | None) -> Rotary:
        """cos and sin of T new positions."""
        if cache is None:
            assert self.cos.shape[0] >= T, "the sequence is longer than max_seq_len"
            return self.cos[:T], self.sin[:T]
        return cache.rows(self.cos, T), cache.rows(self.sin, T)

    def forward(self, ids_BT: Tensor, cache: Cache | None = None) -> Tensor:
        T = ids_BT.shape[1]
        rotary = self.rotary(T, cache)
        x_BTD = F.dropout(self.embed_tokens(ids_BT), self.dropout, self.training)
        x_BTD = self.recomputation.through(self.layers, x_BTD, rotary, cache)
        if cache is not None:
            cache.advance(T)
        return self.norm(x_BTD)
