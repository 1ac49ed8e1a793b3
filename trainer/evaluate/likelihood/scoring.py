"""The negative log-likelihood of tokens under a model, summed, in nats.

Two doors: `score_batch` for batches as they are trained on, where every position has a target, and
`score_sequences` for texts of any length, cut into windows that score every token once.

B batch, T positions, N tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainer.distributed.device import Compute
from trainer.evaluate.likelihood.windows import Window, windows
from trainer.model.language_model import LanguageModel
from trainer.model.loss import token_losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH_TOKENS = 8192  # per forward pass, unless a batch size is given
LOGITS = 1 << 25  # numbers of logits held at once: 128 MiB of fp32


class Scored(NamedTuple):
    """`nats` is summed over the `tokens` that count."""

    nats: float
    tokens: int


def bits_per_byte(nats: float, size: float) -> float:
    """`nats` of text of `size` bytes, in bits per byte."""
    return nats / math.log(2) / size


def perplexity(nats: float) -> float:
    """Of a mean loss; finite for any finite loss."""
    return math.exp(min(nats, 700.0))


@torch.no_grad()
def score_batch(
    model: LanguageModel,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    compute: Compute,
    *,
    weights_BT: Tensor | None = None,
    positions_BT: Tensor | None = None,
    parts: Iterable[int] | None = None,
) -> Scored:
    """The training loss of a batch, as a sum: what `model(inputs, targets)` averages.

    `weights_BT` and `positions_BT` are those of `LanguageModel.forward`. `parts` are the numbers of
    sequences to put through at once; by default all B. The model must be in evaluation mode. Draws
    no random number.
    """
    nats, tokens, first = 0.0, 0, 0
    for count in (len(inputs_BT),) if parts is None else parts:
        part = slice(first, first + count)
        with compute.autocast():
            losses = model(
                inputs_BT[part],
                targets_BT[part],
                weights_BT=None if weights_BT is None else weights_BT[part],
                positions_BT=None if positions_BT is None else positions_BT[part],
            )
        counted = int(losses.counted.item())
        nats += losses.total.item() * counted
        tokens += counted
        first += count
    return Scored(nats, tokens)


@torch.inference_mode()
def score_sequences(
    model: LanguageModel,
    sequences: Sequence[NDArray[np.uint32]],
    compute: Compute,
    *,
    seq_len: int,
    stride: int,
    batch_size: int | None = None,
    logits: int = LOGITS,
    counts: Sequence[NDArray[np.bool_] | None] | None = None,
    progress: Callable[[int], None] = lambda _count: None,
) -> list[float]:
    """For each sequence (N,) the nats of all its tokens but the first, or of those of them that
    `counts` marks (N,).

    The first token is only a condition, so a sequence of one token has 0.0 nats. Windows of
    `seq_len` tokens move by `stride`; windows of short sequences share a batch. Summed in double
    precision, so `batch_size` changes only the last bits, through the matrix products. At most
    `logits` numbers of logits are held at once. `progress` receives the number of tokens scored.
    """
    found: list[list[float]] = [[] for _ in sequences]
    pieces = (
        (place, window)
        for place, tokens in enumerate(sequences)
        for window in windows(len(tokens) - 1, seq_len, stride)
    )
    size = batch_size or max(1, BATCH_TOKENS // seq_len)
    while batch := list(islice(pieces, size)):
        rows = [
            (sequences[place], window, counts[place] if counts else None) for place, window in batch
        ]
        nats = _window_nats(model, rows, compute, logits)
        for (place, _), value in zip(batch, nats, strict=True):
            found[place].append(value)
        progress(sum(int(_scored(window, counted).sum()) for _, window, counted in rows))
    return [math.fsum(values) for values in found]


def _window_nats(
    model: LanguageModel,
    batch: Sequence[tuple[NDArray[np.uint32], Window, NDArray[np.bool_] | None]],
    compute: Compute,
    logits: int,
) -> list[float]:
    """The nats of each window's scored targets."""
    longest = max(window.stop - window.start for _, window, _ in batch)
    ids = np.zeros((len(batch), longest + 1), dtype=np.int64)
    scored = np.zeros((len(batch), longest), dtype=bool)
    for row, (tokens, window, counts) in enumerate(batch):
        # Tokens to the right do not change a prediction, so short windows are padded there.
        ids[row, : window.stop - window.start + 1] = tokens[window.start : window.stop + 1]
        targets = slice(window.first - window.start, window.stop - window.start)
        scored[row, targets] = _scored(window, counts)
    ids_BT = torch.from_numpy(ids).to(compute.device)
    scored_BT = torch.from_numpy(scored).to(compute.device)
    with compute.autocast():
        hidden_ND = model.body(ids_BT[:, :-1])[scored_BT]
        targets_N = ids_BT[:, 1:][scored_BT]
        losses = list(_token_losses(model, hidden_ND, targets_N, logits))
        loss_N = torch.cat(losses) if losses else hidden_ND.new_zeros(0)
    sizes = scored.sum(axis=1).tolist()
    return [part.double().sum().item() for part in loss_N.split(sizes)]


def _scored(window: Window, counts: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which of a window's new targets are scored."""
    if counts is None:
        return np.ones(window.stop - window.first, dtype=np.bool_)
    return counts[window.first + 1 : window.stop + 1]


def _token_losses(
    model: LanguageModel, hidden_ND: Tensor, targets_N: Tensor, logits: int
) -> Iterator[Tensor]:
    """The cross-entropy of every token in fp32, in chunks of at most `logits` logits."""
    chunk = max(1, logits // model.dimensions.V)
    for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True):
        yield token_losses(model.lm_head, hidden, targets)
