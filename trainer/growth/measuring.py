"""How far a grown model's predictions are from those of the smaller one, on real text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.model.language_model import LanguageModel


@dataclass(frozen=True)
class Measured:
    """On `tokens` tokens: the largest difference of two logits, the largest logit, and the mean
    losses before and after, in nats per token."""

    tokens: int
    difference: float
    largest: float
    loss_before: float
    loss_after: float

    @property
    def relative(self) -> float:
        """The difference as a share of the largest logit, or of 1 if all are smaller."""
        return self.difference / max(1.0, self.largest)


@torch.no_grad()
def measure(before: LanguageModel, after: LanguageModel, ids_BT: Tensor) -> Measured:
    """Compare the models on token ids (B, T), a sequence at a time."""
    difference = largest = nats_before = nats_after = 0.0
    for ids_T in ids_BT:
        one, other = (model.eval()(ids_T[None])[0].double() for model in (before, after))
        difference = max(difference, (one - other).abs().max().item())
        largest = max(largest, one.abs().max().item())
        nats_before += F.cross_entropy(one[:-1], ids_T[1:], reduction="sum").item()
        nats_after += F.cross_entropy(other[:-1], ids_T[1:], reduction="sum").item()
    count = ids_BT.shape[0] * (ids_BT.shape[1] - 1)
    return Measured(count, difference, largest, nats_before / count, nats_after / count)
