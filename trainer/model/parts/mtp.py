"""Multi-token prediction: extra heads that predict the tokens after the next one.

The main head predicts x[t+1] from the last hidden state h_t. Head i (from 0) predicts x[t+2+i]:

    linear   W_i h_t + b_i                                          (the nanochat guide's)
    block    the model's own head on block(P [norm h_t; norm e(x[t+1])])
             one more transformer block, as in DeepSeek-V3 (2024, arXiv 2412.19437), depth 1

    loss = main loss + weight sum_i 0.5^i loss_i

The heads sharpen training, or so is the hope, and they draft tokens when the model generates. They
have a file of their own, `mtp.safetensors`: without it the model predicts the same next tokens.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config.model import ModelConfig
from trainer.config.section import Section
from trainer.model.dimensions import dimensions
from trainer.model.inference.drafts import Drafter
from trainer.model.llama import Block, RMSNorm
from trainer.model.loss import IGNORED, Losses, language_loss
from trainer.model.parts.interface import ForwardPass, Json, Part, Plain, Weights
from trainer.model.rotary import Rotary
from trainer.sharded import put

if TYPE_CHECKING:
    from trainer.model.documents import Documents
    from trainer.model.language_model import LanguageModel

#: Each head's loss counts this much of the one before.
FALLOFF = 0.5
#: Positions that the block head looks back on when it drafts; training shows it the whole context.
DRAFT_WINDOW = 64


class MtpBlock(nn.Module):
    """The hidden state of the token after the next one, (B, T, D), for the model's own head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n = dimensions(config)
        self.norm_hidden = RMSNorm(n.D, config.norm_eps)
        self.norm_token = RMSNorm(n.D, config.norm_eps)
        self.proj = nn.Linear(2 * n.D, n.D, bias=False)
        self.block = Block(config, n, n.L)
        self.norm = RMSNorm(n.D, config.norm_eps)

    def forward(
        self,
        hidden_BTD: Tensor,
        next_BTD: Tensor,
        rotary: Rotary,
        documents: Documents | None = None,
    ) -> Tensor:
        both = torch.cat((self.norm_hidden(hidden_BTD), self.norm_token(next_BTD)), dim=-1)
        return self.norm(self.block(self.proj(both), rotary, documents))


class MtpSettings(Section):
    """How many heads of which kind, and the weight of their losses."""

    heads: int
    kind: Literal["linear", "block"]
    weight: float


class Mtp(Part):
    """Extra heads, switched on by `model.mtp_heads`."""

    name = "mtp"
    title = "extra heads"
    weights_file = "mtp.safetensors"

    def settings(self, model: ModelConfig) -> MtpSettings | None:
        """From the keys `mtp_…` of the model."""
        if not model.mtp_heads:
            return None
        return MtpSettings(heads=model.mtp_heads, kind=model.mtp_kind, weight=model.mtp_weight)

    def without(self, model: ModelConfig) -> ModelConfig:
        """The main head alone."""
        return model.model_copy(update={"mtp_heads": 0, "mtp_kind": "linear"})

    def describe(self, model: ModelConfig) -> str:
        """With their number and kind."""
        if model.mtp_kind == "block":
            return "an extra block that predicts the token after the next"
        return f"{model.mtp_heads} extra head" + "s" * (model.mtp_heads > 1)

    def build(self, model: LanguageModel) -> None:
        """Add the heads beside the main one."""
        n = model.dimensions
        if model.config.mtp_kind == "block":
            model.mtp_block = MtpBlock(model.config)
            return
        for i in range(model.config.mtp_heads):
            model.add_module(f"mtp_head_{i}", nn.Linear(n.D, n.V))

    def owns(self, name: str) -> bool:
        """All that begins with mtp_."""
        return name.startswith(("mtp_head_", "mtp_block."))

    def initialize(self, model: LanguageModel, generator: torch.Generator) -> None:
        """Matrices as the model's own, gains 1, biases 0."""
        std = min(0.02, 0.5 / math.sqrt(model.dimensions.D))
        for name, parameter in model.named_parameters():
            if not self.owns(name):
                continue
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            else:
                values = torch.empty(parameter.shape).normal_(0.0, std, generator=generator)
                put(parameter, values)

    def add_loss(self, model: LanguageModel, step: ForwardPass, losses: Losses) -> Losses:
        """The weighted losses of the heads.

        `cross_entropy` is the loss without them. Each is a sum over its tokens divided by what the
        main loss was divided by, so that micro-batches add up to the whole batch, whatever tokens
        count in each.
        """
        total = losses.total
        named = {"cross_entropy": total.detach()} | losses.named
        T = step.ids_BT.shape[1]
        counted = losses.counted + (losses.counted == 0)
        for i in range(model.config.mtp_heads):
            ahead = 1 + i
            if ahead >= T:
                break
            loss = self._loss(model, step, i)
            # Of T tokens the last `ahead` have nothing to predict.
            mean = loss.total * loss.counted / counted * (T / (T - ahead))
            total = total + model.config.mtp_weight * FALLOFF**i * mean
            named[f"mtp_loss_{i + 1}"] = mean.detach()
        return losses._replace(total=total, named=named)

    def _loss(self, model: LanguageModel, step: ForwardPass, i: int) -> Losses:
        ahead = 1 + i
        targets = F.pad(step.targets_BT[:, ahead:], (0, ahead), value=IGNORED)
        weights = step.weights_BT
        if weights is not None:
            weights = F.pad(weights[:, ahead:], (0, ahead))
        if step.documents is not None:
            numbers = step.documents.numbers_BT
            same = F.pad(numbers[:, ahead:] == numbers[:, :-ahead], (0, ahead))
            targets = targets.masked_fill(~same, IGNORED)
        hidden = step.hidden_BTD
        if model.config.mtp_kind == "block":
            following = F.pad(step.ids_BT[:, 1:], (0, 1))
            hidden = _of_block(model, hidden, following, step.documents)
        return language_loss(
            _head(model, i),
            *step.chosen(hidden, targets, weights),
            vocabulary=model.dimensions.V,
            memory=model.loss_memory,
        )

    def measure(self, model: LanguageModel, ids_1T: Tensor) -> dict[str, float]:
        """How often each head says what the main head then says: drafts that would be accepted."""
        hidden = model.body(ids_1T)
        said = model.lm_head(hidden).argmax(dim=-1)
        drafted = hidden
        if model.config.mtp_kind == "block":
            drafted = _of_block(model, hidden, F.pad(ids_1T[:, 1:], (0, 1)))
        found = {}
        for i in range(min(model.config.mtp_heads, ids_1T.shape[1] - 1)):
            ahead = 1 + i
            drafts = _head(model, i)(drafted[:, :-ahead]).argmax(dim=-1)
            agreeing = (drafts == said[:, ahead:]).double().mean()
            found[f"mtp_acceptance_{i + 1}"] = float(agreeing)
        return found

    def drafter(self, model: LanguageModel) -> Drafter:
        """The heads draft."""
        return BlockDrafter(model) if model.config.mtp_kind == "block" else LinearDrafter(model)

    def words(self, model: ModelConfig) -> Json:
        """How many heads, of which kind."""
        return {"mtp_heads": model.mtp_heads, "mtp_kind": model.mtp_kind}

    def fields(self, config: Json) -> Json:
        """How many heads, of which kind."""
        if "mtp_heads" not in config:
            return {}
        return {"mtp_heads": config["mtp_heads"], "mtp_kind": config.get("mtp_kind", "linear")}

    def fold(self, model: ModelConfig, weights: Weights) -> Plain:
        """The model without its extra heads."""
        kept = {name: weight for name, weight in weights.items() if not self.owns(name)}
        note = (
            "The extra heads are left out: other programs do not use them, and the next token is "
            "the same without them."
        )
        return Plain(self.without(model), kept, note)


def _head(model: LanguageModel, i: int) -> nn.Module:
    """What maps hidden states (of the block, if there is one) to the logits of head i."""
    if model.config.mtp_kind == "block":
        return model.lm_head
    return model.get_submodule(f"mtp_head_{i}")


def _of_block(
    model: LanguageModel,
    hidden_BTD: Tensor,
    next_BT: Tensor,
    documents: Documents | None = None,
) -> Tensor:
    """The block's hidden states; `next_BT` are the tokens that follow."""
    tokens_BTD = model.model.embed_tokens(next_BT)
    block = model.get_submodule("mtp_block")
    return block(hidden_BTD, tokens_BTD, model.model.rotary(next_BT.shape[1], documents), documents)


class LinearDrafter:
    """A token from each linear head."""

    window = 1

    def __init__(self, model: LanguageModel) -> None:
        self.heads = model.config.mtp_heads
        self._heads = [_head(model, i) for i in range(self.heads)]

    def draft(self, hidden_RWD: Tensor, next_RW: Tensor) -> list[list[int]]:
        """`heads` tokens for each row; see `Drafter`."""
        last_RD = hidden_RWD[:, -1].float()
        drafts = [head(last_RD).argmax(dim=-1) for head in self._heads]
        return torch.stack(drafts, dim=1).tolist()


class BlockDrafter:
    """One token from the extra block."""

    heads = 1

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.window = min(DRAFT_WINDOW, model.dimensions.T)

    def draft(self, hidden_RWD: Tensor, next_RW: Tensor) -> list[list[int]]:
        """A token for each row; see `Drafter`."""
        hidden = _of_block(self._model, hidden_RWD, next_RW)[:, -1]
        return self._model.lm_head(hidden.float()).argmax(dim=-1, keepdim=True).tolist()
