"""The loss of answers by their advantages: clipped as in PPO, or CISPO. Pure functions.

B answers, T positions. A position counts where the answer's own tokens are predicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from trainer.config.rl import RlConfig


class TokenTerms(NamedTuple):
    """Of each position: its loss, the estimate of the KL divergence from the reference, and whether
    its ratio was clipped; (B, T) each."""

    loss: Tensor
    kl: Tensor
    clipped: Tensor


def token_terms(
    logps_BT: Tensor,
    old_BT: Tensor,
    reference_BT: Tensor,
    advantages_B1: Tensor,
    settings: RlConfig,
) -> TokenTerms:
    """The terms of every position, from log-probabilities now, when it was drawn, and by the
    reference. The last two have no gradient.

    grpo: -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) with the ratio rho of now and old
    (Schulman et al. 2017; two bounds as in DAPO, Yu et al. 2025, arXiv 2503.14476). cispo:
    -sg(min(rho, 1 + clip_high)) A log p, which clips the weight and keeps every token's gradient
    (MiniMax 2025, arXiv 2506.13585). Both add kl_beta rho k3 with k3 = exp(d) - d - 1 and d = log
    of reference over now (Schulman 2020); with the ratio, which is 1 as long as the model is the
    one that drew the answers, its gradient is that of the divergence (DeepSeek 2025, arXiv
    2512.02556), as in TRL.
    """
    ratio_BT = (logps_BT - old_BT).exp()
    limit = settings.ratio_limit
    if settings.loss == "cispo":
        loss_BT = -ratio_BT.clamp(max=limit).detach() * advantages_B1 * logps_BT
        clipped_BT = ratio_BT > limit
    else:
        held_BT = ratio_BT.clamp(1 - settings.clip_low, limit)
        loss_BT = -torch.minimum(ratio_BT * advantages_B1, held_BT * advantages_B1)
        low, high = ratio_BT < 1 - settings.clip_low, ratio_BT > limit
        clipped_BT = (low & (advantages_B1 < 0)) | (high & (advantages_B1 > 0))
    difference_BT = reference_BT - logps_BT
    kl_BT = difference_BT.exp() - difference_BT - 1
    if settings.kl_beta:
        loss_BT = loss_BT + settings.kl_beta * ratio_BT * kl_BT
    return TokenTerms(loss_BT, kl_BT, clipped_BT)


def normalized(loss_BT: Tensor, mask_BT: Tensor, length: int) -> Tensor:
    """The sum over the positions that count, over B times the most tokens of an answer.

    A constant: with the lengths themselves, long wrong answers would cost less than short ones
    (Dr. GRPO, arXiv 2503.20783).
    """
    return (loss_BT * mask_BT).sum() / (len(loss_BT) * length)
