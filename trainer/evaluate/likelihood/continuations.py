"""How likely a model finds what follows a text, and whether it would have written it itself.

B batch, T positions, N tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainer.distributed.device import Compute
from trainer.evaluate.likelihood.scoring import BATCH_TOKENS, LOGITS
from trainer.model.language_model import LanguageModel


class Continuation(NamedTuple):
    """`nats` of all tokens that follow; `greedy` if each of them is the likeliest one."""

    nats: float
    greedy: bool


@torch.inference_mode()
def score_continuations(
    model: LanguageModel,
    sequences: Sequence[tuple[Sequence[int], int]],
    compute: Compute,
    *,
    batch_size: int | None = None,
    logits: int = LOGITS,
    progress: Callable[[int], None] = lambda _count: None,
) -> list[Continuation]:
    """For each sequence, (ids, first), the tokens from number `first` on, at least 1.

    A sequence may be one token longer than the context. Sequences of like length share a batch. At
    most `logits` numbers of logits are held at once. `progress` receives numbers of sequences.
    """
    order = sorted(range(len(sequences)), key=lambda place: -len(sequences[place][0]))
    found: dict[int, Continuation] = {}
    start = 0
    while start < len(order):
        longest = len(sequences[order[start]][0]) - 1
        size = batch_size or max(1, BATCH_TOKENS // max(1, longest))
        places = order[start : start + size]
        batch = [sequences[place] for place in places]
        found |= zip(places, _score(model, batch, longest, compute, logits), strict=True)
        progress(len(places))
        start += size
    return [found[place] for place in range(len(sequences))]


def _score(
    model: LanguageModel,
    batch: Sequence[tuple[Sequence[int], int]],
    longest: int,
    compute: Compute,
    logits: int,
) -> list[Continuation]:
    # Tokens to the right do not change a prediction, so short sequences are padded there.
    ids_BT = torch.zeros((len(batch), longest + 1), dtype=torch.long)
    scored_BT = torch.zeros((len(batch), longest), dtype=torch.bool)
    for row, (ids, first) in enumerate(batch):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        scored_BT[row, first - 1 : len(ids) - 1] = True
    counts = scored_BT.sum(dim=1).tolist()
    ids_BT, scored_BT = ids_BT.to(compute.device), scored_BT.to(compute.device)
    with compute.autocast():
        hidden_ND = model.body(ids_BT[:, :-1])[scored_BT]
    targets_N = ids_BT[:, 1:][scored_BT]
    chunk = max(1, logits // model.dimensions.V)
    parts = [
        _token_scores(model, hidden, targets)
        for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True)
    ]
    nats_N = torch.cat([nats for nats, _ in parts])
    likeliest_N = torch.cat([likeliest for _, likeliest in parts])
    return [
        Continuation(nats.double().sum().item(), bool(likeliest.all()))
        for nats, likeliest in zip(nats_N.split(counts), likeliest_N.split(counts), strict=True)
    ]


def _token_scores(
    model: LanguageModel, hidden_ND: Tensor, targets_N: Tensor
) -> tuple[Tensor, Tensor]:
    """The nats of each target (N,) and whether it is the likeliest token (N,)."""
    logits_NV = model.lm_head(hidden_ND.float()).float()
    nats_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
    return nats_N, logits_NV.argmax(dim=-1) == targets_N
