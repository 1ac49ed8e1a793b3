"""The peer of the throughput benchmark: a compact GPT-2 and its loop, in the manner of nanoGPT.

Written from nanoGPT's published defaults for a CPU: fp32 without autocast, no biases, tied
embeddings, exact GELU, SDPA attention, AdamW (0.9, 0.99) decaying matrices only, clipping at 1.0,
batches at random offsets of a token file, cosine learning rate, the loss read every ten steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEARNING_RATE, MIN_LEARNING_RATE, WARMUP, DECAY_STEPS = 1e-3, 1e-4, 100, 2000
LOG_INTERVAL = 10


@dataclass(frozen=True)
class Shape:
    """Layers, heads, width, context, batch, vocabulary."""

    num_layers: int
    num_heads: int
    width: int
    seq_len: int
    batch_size: int
    vocab_size: int = 65


class LayerNorm(nn.Module):
    """LayerNorm without a bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return F.layer_norm(x_BTD, self.weight.shape, self.weight, None, 1e-5)


class Block(nn.Module):
    """Attention and a feed-forward of four times the width, each after its norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        D = shape.width
        self.num_heads = shape.num_heads
        self.ln_1, self.ln_2 = LayerNorm(D), LayerNorm(D)
        self.c_attn = nn.Linear(D, 3 * D, bias=False)
        self.c_proj = nn.Linear(D, D, bias=False)
        self.c_fc = nn.Linear(D, 4 * D, bias=False)
        self.mlp_proj = nn.Linear(4 * D, D, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q, k, v = (
            y.view(B, T, self.num_heads, -1).transpose(1, 2)
            for y in self.c_attn(self.ln_1(x_BTD)).split(D, dim=2)
        )
        y_BHTC = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.c_proj(y_BHTC.transpose(1, 2).contiguous().view(B, T, D))
        y_BTD: Tensor = self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x_BTD))))
        return x_BTD + y_BTD


class GPT(nn.Module):
    """Token ids (B, T) and targets to the mean loss."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocab_size, shape.width)
        self.wpe = nn.Embedding(shape.seq_len, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.num_layers))
        self.ln_f = LayerNorm(shape.width)
        self.lm_head = nn.Linear(shape.width, shape.vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        x_BTD = self.wte(ids_BT) + self.wpe(torch.arange(ids_BT.shape[1]))
        for block in self.blocks:
            x_BTD = block(x_BTD)
        logits_BTV = self.lm_head(self.ln_f(x_BTD))
        logits_NV = logits_BTV.view(-1, logits_BTV.shape[-1])
        loss: Tensor = F.cross_entropy(logits_NV, targets_BT.view(-1), ignore_index=-1)
        return loss


def learning_rate(step: int) -> float:
    """Linear warmup, then a cosine."""
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / (WARMUP + 1)
    done = min(1.0, (step - WARMUP) / (DECAY_STEPS - WARMUP))
    return MIN_LEARNING_RATE + 0.5 * (1 + math.cos(math.pi * done)) * (
        LEARNING_RATE - MIN_LEARNING_RATE
    )


class Loop:
    """The training loop; `step()` does one step as the original's main loop does."""

    def __init__(self, shape: Shape, tokens: Path) -> None:
        torch.manual_seed(1337)
        self.shape, self.tokens = shape, tokens
        self.model = GPT(shape)
        parameters = list(self.model.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=LEARNING_RATE,
            betas=(0.9, 0.99),
        )
        self.done = 0
        self.losses: list[float] = []
        self.inputs, self.targets = self.batch()

    def batch(self) -> tuple[Tensor, Tensor]:
        """Windows at random offsets; the file is mapped anew each time, as the original does."""
        data = np.memmap(self.tokens, dtype="<u4", mode="r")
        T = self.shape.seq_len
        offsets = torch.randint(len(data) - T, (self.shape.batch_size,))
        x = torch.stack([torch.from_numpy(data[i : i + T].astype(np.int64)) for i in offsets])
        y = torch.stack(
            [torch.from_numpy(data[i + 1 : i + 1 + T].astype(np.int64)) for i in offsets]
        )
        return x, y

    def step(self) -> None:
        """One optimizer step."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.done)
        loss = self.model(self.inputs, self.targets)
        self.inputs, self.targets = self.batch()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.done % LOG_INTERVAL == 0:
            self.losses.append(loss.item())
        self.done += 1
