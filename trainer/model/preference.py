"""Direct preference optimization (Rafailov et al. 2023): the loss of pairs of answers.

P pairs, B = 2 P rows with the chosen answer before the rejected one, T positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.config.schema import PreferenceConfig
from trainer.model.loss import IGNORED, Losses, token_losses_in_chunks

if TYPE_CHECKING:
    from trainer.model.language_model import LanguageModel


def _sigmoid(delta_P: Tensor, settings: PreferenceConfig) -> Tensor:
    """Eq. 7; with label smoothing e the preference is the other way round with probability e
    (Mitchell 2023, cDPO)."""
    scaled_P, e = settings.beta * delta_P, settings.label_smoothing
    return -(1 - e) * F.logsigmoid(scaled_P) - e * F.logsigmoid(-scaled_P)


def _hinge(delta_P: Tensor, settings: PreferenceConfig) -> Tensor:
    """The hinge of the same margin (Zhao et al. 2023, SLiC)."""
    return torch.relu(1 - settings.beta * delta_P)


def _ipo(delta_P: Tensor, settings: PreferenceConfig) -> Tensor:
    """Eq. 17 of Azar et al. 2023, over means per token."""
    return (delta_P - 1 / (2 * settings.beta)).square()


_LOSSES: dict[str, Callable[[Tensor, PreferenceConfig], Tensor]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
}


def preference_losses(
    logps_B: Tensor, reference_B: Tensor, tokens_B: Tensor, settings: PreferenceConfig
) -> Losses:
    """The mean loss over pairs, from the log-probabilities of answers of `tokens_B` tokens.

    `named` has TRL's metrics, means over pairs: a reward is beta times the log-ratio of model and
    reference.
    """
    ratio_B = logps_B - reference_B
    compared_B = ratio_B / tokens_B.clamp(min=1) if settings.loss == "ipo" else ratio_B
    total = _LOSSES[settings.loss](compared_B[0::2] - compared_B[1::2], settings).mean()
    with torch.no_grad():
        rewards_B = settings.beta * ratio_B.detach()
        chosen_P, rejected_P = rewards_B[0::2], rewards_B[1::2]
        named = {
            "rewards/chosen": chosen_P.mean(),
            "rewards/rejected": rejected_P.mean(),
            "rewards/accuracies": (chosen_P > rejected_P).float().mean(),
            "rewards/margins": (chosen_P - rejected_P).mean(),
            "logps/chosen": logps_B[0::2].detach().mean(),
            "logps/rejected": logps_B[1::2].detach().mean(),
        }
    pairs = torch.tensor(float(len(ratio_B) // 2), device=logps_B.device)
    return Losses(total, named, pairs)


def answer_log_probs(model: LanguageModel, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """The log-probability of the counted targets of each row, (B,) fp32."""
    hidden_ND, targets_N = model.body(ids_BT).flatten(0, 1), targets_BT.flatten()
    held = model.loss_memory.held(len(targets_N), model.dimensions.V)
    losses_N = token_losses_in_chunks(model.lm_head, hidden_ND, targets_N, held)
    return -losses_N.view(targets_BT.shape).sum(dim=1)


@dataclass(frozen=True)
class PreferenceObjective:
    """What a step calls in place of the model: the loss of a batch of pairs."""

    model: LanguageModel
    settings: PreferenceConfig

    def __call__(self, ids_BT: Tensor, targets_BT: Tensor, *, weights_BT: Tensor) -> Losses:
        """`weights_BT` holds the log-probabilities by the reference, (B,)."""
        logps_B = answer_log_probs(self.model, ids_BT, targets_BT)
        tokens_B = (targets_BT != IGNORED).sum(dim=1)
        return preference_losses(logps_B, weights_BT, tokens_B, self.settings)
