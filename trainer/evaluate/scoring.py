"""The loss of a model on sequences, summed over their tokens. B batch, T positions, N tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from trainer.distributed.device import Compute
from trainer.evaluate.windows import Window, windows
from trainer.model.language_model import LanguageModel
from trainer.model.loss import token_losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_TOKENS = 8192  # go through the model at once, unless a person says otherwise
LOGITS = 1 << 25  # numbers of them at once, 128 MiB


def usual_batch_size(seq_len: int) -> int:
    """Sequences at once."""
    return max(1, BATCH_TOKENS // seq_len)


@torch.inference_mode()
def summed_losses(
    model: LanguageModel,
    sequences: Sequence[NDArray[np.uint32]],
    compute: Compute,
    *,
    seq_len: int,
    stride: int,
    batch_size: int | None = None,
    progress: Callable[[int], None] = lambda _count: None,
) -> list[float]:
    """For each sequence (N,) the nats that the model needs for all its tokens but the first.

    The first is given; a sequence of one token needs 0.0. Summed in double precision over the
    tokens, so that it does not depend on `batch_size` but for the last bits of the matrix products.
    Short sequences share a batch. `progress` is told how many tokens were scored.
    """
    found: list[list[float]] = [[] for _ in sequences]
    pieces = (
        (place, window)
        for place, tokens in enumerate(sequences)
        for window in windows(len(tokens) - 1, seq_len, stride)
    )
    while batch := list(islice(pieces, batch_size or usual_batch_size(seq_len))):
        nats = _nats(model, [(sequences[place], window) for place, window in batch], compute)
        for (place, _), value in zip(batch, nats, strict=True):
            found[place].append(value)
        progress(sum(window.stop - window.first for _, window in batch))
    return [math.fsum(values) for values in found]


def _nats(
    model: LanguageModel, batch: Sequence[tuple[NDArray[np.uint32], Window]], compute: Compute
) -> list[float]:
    """The loss of each window's scored targets, summed."""
    longest = max(window.stop - window.start for _, window in batch)
    ids = np.zeros((len(batch), longest + 1), dtype=np.int64)
    scored = np.zeros((len(batch), longest), dtype=bool)
    for row, (tokens, window) in enumerate(batch):
        # What is right of a token does not change its prediction, so shorter ones are filled there.
        ids[row, : window.stop - window.start + 1] = tokens[window.start : window.stop + 1]
        scored[row, window.first - window.start : window.stop - window.start] = True
    ids_BT = torch.from_numpy(ids).to(compute.device)
    scored_BT = torch.from_numpy(scored).to(compute.device)
    with compute.autocast():
        hidden_ND = model.body(ids_BT[:, :-1])[scored_BT]
        targets_N = ids_BT[:, 1:][scored_BT]
        loss_N = torch.cat(list(_losses(model, hidden_ND, targets_N)))
    counts = scored.sum(axis=1).tolist()
    return [part.double().sum().item() for part in loss_N.split(counts)]


def _losses(
    model: LanguageModel, hidden_ND: torch.Tensor, targets_N: torch.Tensor
) -> Iterator[torch.Tensor]:
    """The cross-entropy of every token in fp32, as many at a time as memory is meant for."""
    chunk = max(1, LOGITS // model.dimensions.V)
    for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True):
        yield token_losses(model.lm_head, hidden, targets)
