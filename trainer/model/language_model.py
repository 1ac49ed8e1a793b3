"""The model the loop trains: body and output head. B batch, T positions, V vocabulary."""

from __future__ import annotations

import math
from typing import overload

import torch
from torch import Tensor, nn

from trainer.config.model import ModelConfig
from trainer.model.base import Base
from trainer.model.dimensions import dimensions
from trainer.model.documents import Documents
from trainer.model.gpt2 import GPT2Body
from trainer.model.inference.cache import Cache, KeyValueCache
from trainer.model.inference.drafts import Drafter
from trainer.model.llama import LlamaBody, RMSNorm
from trainer.model.loss import LOSS_MEMORY, PLAIN, Losses, LossMemory, Objective
from trainer.model.parts.interface import Part
from trainer.model.parts.registry import active_parts
from trainer.model.recomputation import KEEP_ALL, Recomputation
from trainer.model.training_pass import TrainingPass, over_all_tokens
from trainer.sharded import put

INIT_STD = 0.02


class LanguageModel(nn.Module):
    """Next-token prediction. State-dict names are those of LlamaForCausalLM or GPT2LMHeadModel."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        loss_memory: LossMemory = LOSS_MEMORY,
        objective: Objective = PLAIN,
        training_pass: TrainingPass = over_all_tokens,
        recomputation: Recomputation = KEEP_ALL,
    ) -> None:
        super().__init__()
        self.config = config
        self.loss_memory = loss_memory
        self.objective = objective
        self.training_pass = training_pass
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
        #: Where the frozen weights are from; None for a model whose own weights are trained.
        self.base: Base | None = None
        self.parts = active_parts(config)
        for part in self.parts:
            part.build(self)
        self.body.recomputation = recomputation

    @property
    def body(self) -> LlamaBody | GPT2Body:
        """Everything before the output head."""
        return self.transformer if self.config.flavour == "gpt2" else self.model

    @property
    def final_norm(self) -> RMSNorm | nn.LayerNorm:
        """The last step of the body. Its gain has the type that the model computes in: frozen
        matrices may be narrower.
        """
        return self.transformer.ln_f if self.config.flavour == "gpt2" else self.model.norm

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.lm_head.weight.device

    @overload
    def forward(
        self,
        ids_BT: Tensor,
        targets_BT: None = None,
        *,
        weights_BT: None = None,
        positions_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor,
        *,
        weights_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        cache: None = None,
    ) -> Losses: ...

    def forward(
        self,
        ids_BT: Tensor,
        targets_BT: Tensor | None = None,
        *,
        weights_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor | Losses:
        """Logits (B, T, V) for the next token at every position, or with targets the loss.

        Both go through here because DDP and FSDP see only calls of `forward`. `weights_BT` weighs
        the tokens of the loss; see `language_loss`. With `positions_BT`, which count from 0 in
        every document of a sequence, tokens see their own document only. The weights must leave out
        targets in another document.
        """
        documents = None
        if positions_BT is not None:
            dropout = self.config.dropout if self.training else 0.0
            documents = Documents(positions_BT, self._computing_dtype(), dropout)
        if targets_BT is None:
            return self.lm_head(self.body(ids_BT, cache or documents))
        if not self.training:  # evaluation measures the plain next-token loss
            return over_all_tokens(self, ids_BT, targets_BT, weights_BT, documents)[1]
        step, losses = self.training_pass(self, ids_BT, targets_BT, weights_BT, documents)
        for part in self.parts:
            losses = part.add_loss(self, step, losses)
        return losses

    def last_logits(self, ids_BT: Tensor, cache: Cache | None = None) -> Tensor:
        """Logits (B, V) after the last position only."""
        return self.lm_head(self.body(ids_BT, cache)[:, -1])

    def new_cache(self, batch: int, length: int, dtype: torch.dtype | None = None) -> KeyValueCache:
        """An empty key-value cache for `length` positions."""
        assert length <= self.dimensions.T, "the cache is longer than max_seq_len"
        kind = dtype or self.final_norm.weight.dtype
        return KeyValueCache(self.dimensions, batch, length, self.device, kind)

    def _computing_dtype(self) -> torch.dtype:
        """That of the queries."""
        kind = self.device.type
        narrow = torch.is_autocast_enabled(kind)
        return torch.get_autocast_dtype(kind) if narrow else self.final_norm.weight.dtype

    def drafter(self) -> Drafter | None:
        """What drafts tokens for this model, if a part of it does."""
        drafters = (part.drafter(self) for part in self.parts)
        return next((drafter for drafter in drafters if drafter is not None), None)

    def owner(self, name: str) -> Part | None:
        """The part that added the parameter `name`; None for the model's own."""
        return next((part for part in self.parts if part.owns(name)), None)

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Fresh weights, the same on every device and thread count.

        Matrices N(0, 0.02), narrower for wide models so that the first loss stays near ln V;
        projections back into the residual stream scaled by 1/sqrt(2L) as in GPT-2. Frozen weights
        are left alone: they are loaded.
        """
        generator = torch.Generator().manual_seed(seed)
        n = self.dimensions
        std = min(INIT_STD, 0.5 / math.sqrt(n.D))
        for name, parameter in self.named_parameters():
            if self.owner(name) or any(part.on_base for part in self.parts):
                continue
            if parameter.ndim < 2:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)  # gains; all else
                continue
            residual = name.endswith(("o_proj.weight", "down_proj.weight", "c_proj.weight"))
            scale = std / math.sqrt(2 * n.L) if residual else std
            values = torch.empty(parameter.shape).normal_(0.0, scale, generator=generator)
            put(parameter, values)
        for part in self.parts:
            part.initialize(self, generator)
