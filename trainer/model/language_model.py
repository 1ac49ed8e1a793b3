"""The model the loop trains: body, output head, loss. B batch, T positions, V vocabulary."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trainer.config.schema import ModelConfig
from trainer.model.gpt2 import GPT2Body
from trainer.model.inference.cache import Cache, KeyValueCache
from trainer.model.llama import LlamaBody
from trainer.model.parameters import LOSS_CHUNK, LOSS_LOGITS, dimensions

INIT_STD = 0.02


class LanguageModel(nn.Module):
    """Next-token prediction. State-dict names are those of LlamaForCausalLM or GPT2LMHeadModel."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.dimensions = n = dimensions(config)
        if config.flavour == "gpt2":
            self.transformer = GPT2Body(config)
            embedding = self.transformer.wte
        else:
            self.model = LlamaBody(config)
            embedding = self.model.embed_tokens
        self.lm_head = nn.Linear(n.D, n.V, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = embedding.weight

    @property
    def body(self) -> nn.Module:
        """Everything before the output head."""
        return self.transformer if self.config.flavour == "gpt2" else self.model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    def forward(self, ids_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits (B, T, V) for the next token at every position."""
        return self.lm_head(self.body(ids_BT, cache))

    def last_logits(self, ids_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits (B, V) after the last position only."""
        return self.lm_head(self.body(ids_BT, cache)[:, -1])

    def loss(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean cross-entropy in nats per token, computed in fp32.

        Where the logits of the whole batch would be huge, they are computed in chunks, and again
        in the backward pass: a third more work in the output head for a fraction of its memory.
        """
        hidden_ND = self.body(ids_BT).flatten(0, 1)
        targets_N = targets_BT.flatten()
        if len(targets_N) * self.dimensions.V <= LOSS_LOGITS:
            return self._summed_loss(hidden_ND, targets_N) / len(targets_N)
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        for hidden, targets in zip(
            hidden_ND.split(LOSS_CHUNK), targets_N.split(LOSS_CHUNK), strict=True
        ):
            # Without recomputation autograd would keep every chunk's logits after all.
            total = total + checkpoint(
                self._summed_loss, hidden, targets, use_reentrant=False, preserve_rng_state=False
            )
        return total / len(targets_N)

    def _summed_loss(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        return F.cross_entropy(self.lm_head(hidden_ND).float(), targets_N, reduction="sum")

    def new_cache(self, batch: int, length: int, dtype: torch.dtype | None = None) -> KeyValueCache:
        """An empty key-value cache for `length` positions."""
        assert length <= self.dimensions.T, "the cache is longer than max_seq_len"
        kind = dtype or self.lm_head.weight.dtype
        return KeyValueCache(self.dimensions, batch, length, self.device, kind)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Fresh weights, the same on every device and thread count.

        Matrices N(0, 0.02), narrower for wide models so that the first loss stays near ln V;
        projections back into the residual stream scaled by 1/sqrt(2L) as in GPT-2.
        """
        generator = torch.Generator().manual_seed(seed)
        n = self.dimensions
        std = min(INIT_STD, 0.5 / math.sqrt(n.D))
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)  # gains; all else
                continue
            residual = name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight"))
            scale = std / math.sqrt(2 * n.L) if residual else std
            values = torch.empty(parameter.shape).normal_(0.0, scale, generator=generator)
            parameter.copy_(values)
