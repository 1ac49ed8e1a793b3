"""The pass of a training step: forward over all tokens, and the loss over all or some of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from trainer.config.schema import TrainConfig
from trainer.model.loss import PLAIN, Losses, language_loss
from trainer.model.parts.interface import ForwardPass

if TYPE_CHECKING:
    from trainer.model.documents import Documents
    from trainer.model.language_model import LanguageModel


class TrainingPass(Protocol):
    """The forward pass of a training step and its loss, before the parts of the model add theirs.

    `ids_BT`, `targets_BT` and `weights_BT` are those of `LanguageModel.forward`; `documents` are
    given where tokens see their own document only.
    """

    def __call__(
        self,
        model: LanguageModel,
        ids_BT: Tensor,
        targets_BT: Tensor,
        weights_BT: Tensor | None,
        documents: Documents | None = None,
    ) -> tuple[ForwardPass, Losses]: ...


def over_all_tokens(
    model: LanguageModel,
    ids_BT: Tensor,
    targets_BT: Tensor,
    weights_BT: Tensor | None,
    documents: Documents | None = None,
) -> tuple[ForwardPass, Losses]:
    """The mean over all tokens that count."""
    hidden_BTD = model.body(ids_BT, documents)
    step = ForwardPass(ids_BT, targets_BT, hidden_BTD, weights_BT, documents=documents)
    for part in model.parts if model.training else ():
        weights_BT = part.token_weights(model, step, weights_BT)
    losses = language_loss(
        model.lm_head,
        step.hidden_BTD,
        targets_BT,
        weights_BT,
        vocabulary=model.dimensions.V,
        memory=model.loss_memory,
        objective=model.objective if model.training else PLAIN,
    )
    return step, losses


def training_pass_of(train: TrainConfig) -> TrainingPass:
    """What the configuration asks for."""
    if train.collider:
        from trainer.model.collider import Collider

        return Collider(train.collider_keep)
    return over_all_tokens
