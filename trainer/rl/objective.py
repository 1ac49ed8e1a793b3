"""What a step calls in place of the model: the loss of a batch of answers that were judged.

B answers, T positions, N = B T, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainer.model.loss import IGNORED, Losses
from trainer.rl.loss import normalized, token_terms

if TYPE_CHECKING:
    from trainer.config.rl import RlConfig
    from trainer.model.language_model import LanguageModel
    from trainer.model.loss import Head


def answer_scores(
    model: LanguageModel,
    ids_BT: Tensor,
    targets_BT: Tensor,
    temperature: float,
    known: int | None = None,
) -> Tensor:
    """The log-probability of every target and the entropy of its distribution in nats, (2, B, T)
    fp32, at a temperature; 0 where nothing counts. The entropy has no gradient.

    The distribution is over the first `known` ids, from which answers are drawn: a model may have
    more than its tokenizer. None: over all.
    """
    hidden_BTD = model.body(ids_BT)
    counts_BT = targets_BT != IGNORED
    # Most positions of a batch are prompts and padding: their logits are never computed.
    states_ND, targets_N = hidden_BTD[counts_BT], targets_BT[counts_BT]
    found_2BT = hidden_BTD.new_zeros((2, *targets_BT.shape), dtype=torch.float32)
    if not len(targets_N):
        # Every rank's backward pass has to reach every parameter.
        return found_2BT + 0.0 * model.lm_head(hidden_BTD[:1, :1]).float().sum()
    held = model.loss_memory.held(len(targets_N), model.dimensions.V)
    score = partial(_scores, model.lm_head, temperature, known)
    if held >= len(targets_N):
        scores_2N = score(states_ND, targets_N)
    else:  # computed again in the backward pass: autograd would keep the logits
        pieces = [
            checkpoint(score, *piece, use_reentrant=False, preserve_rng_state=False)
            for piece in zip(states_ND.split(held), targets_N.split(held), strict=True)
        ]
        scores_2N = torch.cat(pieces, dim=1)
    places = counts_BT[None].expand(2, -1, -1)
    return found_2BT.masked_scatter(places, scores_2N)


def _scores(
    head: Head, temperature: float, known: int | None, states_ND: Tensor, targets_N: Tensor
) -> Tensor:
    """K ids are known."""
    logs_NK = (head(states_ND)[:, :known].float() / temperature).log_softmax(dim=-1)
    chosen_N = logs_NK.gather(-1, targets_N[:, None])[:, 0]
    with torch.no_grad():
        entropy_N = -(logs_NK.exp() * logs_NK).sum(dim=-1)
    return torch.stack([chosen_N, entropy_N])


@dataclass(frozen=True)
class PolicyObjective:
    """The loss of answers, drawn from the first `known` ids. `weights_BT` are what `RolloutBatches`
    has of them, (B, 3 or 4, T).
    """

    model: LanguageModel
    settings: RlConfig
    known: int | None = None

    def __call__(self, ids_BT: Tensor, targets_BT: Tensor, *, weights_BT: Tensor) -> Losses:
        """Mean over answers; `named` are means over all tokens of the step's answers.

        Where an old log-probability is NaN the answers were drawn by this very model, and the
        ratio is 1. `kl` is among them if there is a reference.
        """
        settings = self.settings
        advantages_BT, old_BT, share_BT, *references = weights_BT.unbind(dim=1)
        logps_BT, entropy_BT = answer_scores(
            self.model, ids_BT, targets_BT, settings.temperature, self.known
        )
        said_BT, counts_BT = targets_BT != IGNORED, ~advantages_BT.isnan()
        mask_BT = (said_BT & counts_BT).float()
        advantages_BT = advantages_BT.nan_to_num()
        old_BT = torch.where(old_BT.isnan(), logps_BT.detach(), old_BT)
        reference_BT = references[0] if references else logps_BT.detach()
        terms = token_terms(logps_BT, old_BT, reference_BT, advantages_BT, settings)
        total = normalized(terms.loss, mask_BT, settings.max_new_tokens)
        share_BT = share_BT * said_BT / len(ids_BT)
        named = {
            "entropy": (entropy_BT.detach() * share_BT).sum(),
            "clipped_share": (terms.clipped * share_BT).sum(),
        }
        if references:
            named["kl"] = (terms.kl.detach() * share_BT).sum()
        return Losses(total, named, torch.tensor(float(len(ids_BT)), device=ids_BT.device))
