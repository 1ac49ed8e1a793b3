"""From a token file to batches, each a pure function of (seed, index of its first sample).

There is no buffer and no state, so a run resumes exactly from one integer, and a batch is the same
for any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from shared.errors import UserError
from trainer.data.permutation import Permutation, key_of
from trainer.data.tokens import TokenFile

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from trainer.data.shards.stream import ShardedTokens

    #: Inputs and targets, each (B, T); where not every target counts their weights (B, T); and
    #: where documents do not see each other the inputs' positions in their documents (B, T).
    Batch = (
        tuple[NDArray[np.int64], NDArray[np.int64]]
        | tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_ | np.float32]]
        | tuple[
            NDArray[np.int64],
            NDArray[np.int64],
            NDArray[np.bool_ | np.float32],
            NDArray[np.int64],
        ]
    )


BLOCK = 4096  # samples whose positions are computed together


class SampleSource(Protocol):
    """The interface the training loop reads from: token files and synthetic data.

    `row_by_row`: the rows of a sample are the same in every batch that it is part of, so batches
    may be cut from a larger one. Otherwise they depend on the samples beside them.
    """

    seq_len: int
    vocab_size: int
    row_by_row: bool

    @property
    def num_windows(self) -> int:
        """Samples in an epoch."""

    def batch(self, first_sample: int, count: int) -> Batch:
        """Samples `first_sample … first_sample + count - 1`."""

    def counted(self, first_sample: int, count: int) -> float:
        """How many tokens of these samples count in the loss, or the sum of their weights."""


class TokenBatches:
    """Windows of a token file in a shuffled order that is computed from `seed` and the epoch.

    An epoch cuts the file into windows of `seq_len` predictions that do not overlap and visits
    each once. The file is treated as a ring, and every epoch after the first starts cutting at
    another token, so windows shift and the remainder that fits no window differs.

    With `document_end`, the token that ends every document, documents are told apart; see
    `apart`.
    """

    row_by_row = True

    def __init__(
        self, token_file: TokenFile, seq_len: int, seed: int, document_end: int | None = None
    ) -> None:
        """Raises UserError when the file is shorter than one window."""
        check_length(token_file, seq_len)
        self.token_file = token_file
        self.seq_len = seq_len
        self.seed = seed
        self.document_end = document_end
        self.vocab_size = token_file.vocab_size
        self._tokens = token_file.view
        self._order = lru_cache(maxsize=2)(self._epoch)
        # A short epoch has fewer: each further epoch in a block costs a permutation of its own.
        self._block_size = min(BLOCK, 8 * self.num_windows)
        self._block = lru_cache(maxsize=2)(self._block_starts)

    @property
    def num_windows(self) -> int:
        """Windows, and so samples, in an epoch."""
        return (len(self._tokens) - 1) // self.seq_len

    def batch(self, first_sample: int, count: int) -> Batch:
        """Inputs and targets, each (count, seq_len) int64; targets are the next tokens."""
        starts = self.starts(first_sample, count)
        return apart(gather(self._tokens, starts, self.seq_len), self.document_end)

    def counted(self, first_sample: int, count: int) -> float:
        """Every token counts, but for the first of a document where those are told apart."""
        if self.document_end is None:
            return count * self.seq_len
        inputs, _ = gather(self._tokens, self.starts(first_sample, count), self.seq_len)
        return int(np.count_nonzero(inputs != self.document_end))

    def starts(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """Where in the file the samples begin, (count,)."""
        block, offset = divmod(first_sample, self._block_size)
        if offset + count <= self._block_size:
            return self._block(block)[offset : offset + count]
        return self._compute_starts(first_sample, count)

    def _block_starts(self, block: int) -> NDArray[np.int64]:
        # A dozen numpy calls cost the same for a few samples as for thousands.
        return self._compute_starts(block * self._block_size, self._block_size)

    def _compute_starts(self, first_sample: int, count: int) -> NDArray[np.int64]:
        starts = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            epoch, position = divmod(first_sample + done, self.num_windows)
            here = min(count - done, self.num_windows - position)
            permutation, offset = self._order(epoch)
            windows = permutation(np.arange(position, position + here, dtype=np.int64))
            starts[done : done + here] = (windows * self.seq_len + offset) % len(self._tokens)
            done += here
        return starts

    def _epoch(self, epoch: int) -> tuple[Permutation, int]:
        key = key_of(self.seed, epoch)
        offset = key_of(key, 1) % len(self._tokens) if epoch else 0
        return Permutation(self.num_windows, key), offset


def apart(batch: Batch, document_end: int | None) -> Batch:
    """The windows of `batch` with documents told apart; as they are without a `document_end`.

    A document begins after that token and at the beginning of a window. Its first token is no
    target: nothing that is seen predicts it.
    """
    if document_end is None:
        return batch
    inputs, targets = batch[:2]
    ends = inputs == document_end
    begins = np.zeros(inputs.shape, dtype=np.int64)
    begins[:, 1:] = np.where(ends[:, :-1], np.arange(1, inputs.shape[1]), 0)
    positions = np.arange(inputs.shape[1]) - np.maximum.accumulate(begins, axis=1)
    return inputs, targets, ~ends, positions


def gather(
    tokens: NDArray[np.uint32] | ShardedTokens, starts: NDArray[np.int64], seq_len: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The windows of `seq_len + 1` tokens at `starts` as inputs and targets, (B, T) int64 each.

    A window that reaches the end of `tokens` continues at their beginning.
    """
    length = seq_len + 1
    last = len(tokens) - length
    if not isinstance(tokens, np.ndarray):
        windows = tokens.windows(starts, length)
    elif len(starts) and int(starts.max()) > last:
        windows = tokens[(starts[:, None] + np.arange(length)) % len(tokens)]
    else:
        # Every window of the file as a row, without a copy; the chosen ones are copied at once.
        rows = np.ndarray((last + 1, length), tokens.dtype, tokens, strides=tokens.strides * 2)
        windows = rows[starts]
    return windows[:, :-1].astype(np.int64), windows[:, 1:].astype(np.int64)


def ordered_batches(
    token_file: TokenFile,
    seq_len: int,
    batch_size: int,
    max_batches: int | None = None,
    *,
    document_end: int | None = None,
) -> Iterator[Batch]:
    """Batches for evaluation: always the same windows, in file order, none overlapping.

    With `document_end` documents are told apart, as `apart` does. With `max_batches` the windows
    are spread evenly over the file. The last batch may be smaller. Raises UserError when the file
    is shorter than one window.
    """
    check_length(token_file, seq_len)
    tokens = token_file.view
    windows = (len(tokens) - 1) // seq_len
    chosen = windows if max_batches is None else min(windows, max_batches * batch_size)
    starts = np.arange(chosen, dtype=np.int64) * windows // chosen * seq_len
    for first in range(0, chosen, batch_size):
        yield apart(gather(tokens, starts[first : first + batch_size], seq_len), document_end)


def check_length(token_file: TokenFile, seq_len: int) -> None:
    """Raise UserError unless the file holds one window of `seq_len + 1` tokens."""
    if seq_len < 1:
        raise UserError(f"seq_len is {seq_len}: it must be 1 or more")
    if token_file.count < seq_len + 1:
        raise UserError(
            f"{token_file.path} has {token_file.count} tokens, fewer than the {seq_len + 1} that "
            f"one sample of seq_len {seq_len} needs: use a shorter seq_len or more text"
        )


def to_tensors(batch: Batch, device: str | torch.device) -> tuple[torch.Tensor, ...]:
    """The arrays of `batch` as tensors on `device`; the copy to a GPU is asynchronous."""
    import torch

    tensors = tuple(map(torch.from_numpy, batch))
    device = torch.device(device)
    if device.type == "cpu":
        return tensors
    if device.type == "cuda":
        tensors = tuple(tensor.pin_memory() for tensor in tensors)
    return tuple(tensor.to(device, non_blocking=True) for tensor in tensors)
