"""The training loss: cross-entropy averaged over the tokens that count.

B batch, T positions, N = B T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainer.model.linear_loss import IGNORED, Factors, matrix_of, summed_losses

__all__ = ["IGNORED", "LossMemory", "Losses", "Objective", "language_loss", "token_losses"]

#: Maps hidden states (N, D) to logits (N, V).
Head = Callable[[Tensor], Tensor]

#: Maps hidden states (N, D), targets (N,) and weights (N,) or None to the sum of the token losses.
Summed = Callable[[Tensor, Tensor, Tensor | None], Tensor]


#: Numbers of logits of a piece: 256 MiB in fp32. Smaller pieces add up the head's gradient more
#: often, larger ones gain nothing (measured on a CPU).
PIECE = 1 << 26


@dataclass(frozen=True)
class LossMemory:
    """How many logits are held at once.

    Up to `logits` numbers are computed in one piece, a larger batch `chunk` tokens at a time; None:
    as many as have `PIECE` logits. The products of the output head are made as with a vocabulary
    rounded up to a `multiple` (0: as it is).
    """

    logits: int = PIECE
    chunk: int | None = None
    multiple: int = 0

    def held(self, tokens: int, vocabulary: int) -> int:
        """How many tokens' logits are in memory at once."""
        if tokens * vocabulary <= self.logits:
            return tokens
        return min(tokens, self.chunk or max(1, PIECE // vocabulary))


LOSS_MEMORY = LossMemory()


def loss_memory(chunk_tokens: int | None, multiple: int = 0) -> LossMemory:
    """What `train.loss_chunk_tokens` asks for: tokens of a piece, 0 for one piece, None for what
    fits the vocabulary; and `train.vocab_multiple`.
    """
    if chunk_tokens is None:
        return LossMemory(multiple=multiple)
    if not chunk_tokens:
        return LossMemory(1 << 62, multiple=multiple)
    return LossMemory(0, chunk_tokens, multiple)


@dataclass(frozen=True)
class Objective:
    """What is minimized: the cross-entropy, or a variation of it in training.

    With `label_smoothing` e the target is 1 - e for the token and e spread evenly over the
    vocabulary (Szegedy et al. 2016). `z_loss` adds z log(Z)^2 per token, where Z is the sum that
    the softmax divides by (Chowdhery et al. 2022), which keeps logits from drifting.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0


PLAIN = Objective()


class Losses(NamedTuple):
    """The loss of a batch.

    `total` is the scalar to backpropagate: the weighted mean over the counted tokens, in nats per
    token, fp32. `named` holds further scalars to log, detached. `counted` is what the mean was
    divided by: the number of counted tokens, or the sum of their weights. Sums and means over
    several batches weight each `total` by its `counted`.
    """

    total: Tensor
    named: dict[str, Tensor]
    counted: Tensor


def language_loss(
    head: Head,
    hidden_BTD: Tensor,
    targets_BT: Tensor,
    weights_BT: Tensor | None = None,
    *,
    vocabulary: int,
    memory: LossMemory,
    objective: Objective = PLAIN,
) -> Losses:
    """sum_i w_i nll_i / sum_i w_i over the tokens of a batch.

    `weights_BT` is None (every token weighs 1), a bool mask, or floats that are not negative.
    Targets of `IGNORED` weigh 0. A batch in which nothing counts has loss 0 and gradient 0. Another
    objective than the plain one names the plain mean as `cross_entropy`.
    """
    if weights_BT is not None:
        targets_BT = targets_BT.masked_fill(weights_BT == 0, IGNORED)
    counts = targets_BT != IGNORED
    weights_N = None
    counted = counts.sum()
    if weights_BT is not None and weights_BT.is_floating_point():
        weights_N = weights_BT.float().flatten()
        counted = (weights_BT.float() * counts).sum()
    held = memory.held(targets_BT.numel(), vocabulary)
    tokens = hidden_BTD.flatten(0, 1), targets_BT.flatten(), weights_N
    divisor = counted + (counted == 0)
    multiple = memory.multiple if vocabulary % (memory.multiple or 1) else 0
    both = _sums(*tokens, head=head, objective=objective, held=held, multiple=multiple) / divisor
    named = {} if objective == PLAIN else {"cross_entropy": both[1].detach()}
    return Losses(both[0], named, counted)


def _sums(
    hidden_ND: Tensor,
    targets_N: Tensor,
    weights_N: Tensor | None,
    *,
    head: Head,
    objective: Objective,
    held: int,
    multiple: int,
) -> Tensor:
    """The weighted sums of the objective and, where it is another, of the plain cross-entropy."""
    tokens = hidden_ND, targets_N, weights_N
    matrix = matrix_of(head) if held < len(targets_N) or multiple else None
    if matrix is not None:
        factors = Factors(objective.label_smoothing, objective.z_loss)
        return summed_losses(
            matrix, *tokens, factors=factors, piece=max(1, held), multiple=multiple
        )
    if objective == PLAIN:
        return _in_chunks(partial(_summed, head), held, *tokens)[None]
    return _in_chunks(partial(_summed_both, head, objective), held, *tokens)


def token_losses(head: Head, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
    """The cross-entropy of every token in nats, (N,) fp32; 0 where the target is `IGNORED`."""
    return _cross_entropy(head(hidden_ND), targets_N, "none")


def token_losses_in_chunks(head: Head, hidden_ND: Tensor, targets_N: Tensor, held: int) -> Tensor:
    """The same, `held` tokens at a time, and again in the backward pass."""
    if held >= len(targets_N):
        return token_losses(head, hidden_ND, targets_N)
    chunks = zip(hidden_ND.split(held), targets_N.split(held), strict=True)
    return torch.cat([_again(partial(token_losses, head), *chunk) for chunk in chunks])


def _in_chunks(
    summed: Summed, held: int, hidden_ND: Tensor, targets_N: Tensor, weights_N: Tensor | None
) -> Tensor:
    """`summed` over all tokens, `held` of them at a time."""
    if held >= len(targets_N):
        return summed(hidden_ND, targets_N, weights_N)
    total = hidden_ND.new_zeros((), dtype=torch.float32)
    for first in range(0, len(targets_N), held):
        part = slice(first, first + held)
        weights = None if weights_N is None else weights_N[part]
        total = total + _again(summed, hidden_ND[part], targets_N[part], weights)
    return total


def _again(function: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """`function(*tensors)`, computed again in the backward pass: autograd would keep the logits."""
    found: Tensor = checkpoint(function, *tensors, use_reentrant=False, preserve_rng_state=False)
    return found


def _summed(head: Head, hidden_ND: Tensor, targets_N: Tensor, weights_N: Tensor | None) -> Tensor:
    if weights_N is not None:
        return (token_losses(head, hidden_ND, targets_N) * weights_N).sum()
    return _cross_entropy(head(hidden_ND), targets_N, "sum")


def _summed_both(
    head: Head,
    objective: Objective,
    hidden_ND: Tensor,
    targets_N: Tensor,
    weights_N: Tensor | None,
) -> Tensor:
    """The sums of the objective and of the plain cross-entropy, (2,)."""
    logits_NV = head(hidden_ND).float()
    plain_N = _cross_entropy(logits_NV, targets_N, "none")
    log_sum_N = logits_NV.logsumexp(dim=-1)
    even_N = log_sum_N - logits_NV.mean(dim=-1)  # against the even distribution
    smoothed_N = torch.lerp(plain_N, even_N, objective.label_smoothing)
    total_N = smoothed_N + objective.z_loss * log_sum_N.square()
    weights_N = (targets_N != IGNORED) * (1.0 if weights_N is None else weights_N)
    return torch.stack([(total_N * weights_N).sum(), (plain_N * weights_N).sum()])


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor, reduction: str) -> Tensor:
    return F.cross_entropy(logits_NV.float(), targets_N, reduction=reduction, ignore_index=IGNORED)
