"""Samples made by rule, to try out training without any text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shared.errors import UserError
from trainer.data.permutation import Permutation, key_of, mix_array

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SyntheticBatches:
    """`n_samples` sequences of three kinds, in the interface of `TokenBatches`.

    Sample i of a vocabulary of V tokens is, by i mod 3: one token `i mod (V-1) + 1` repeated,
    the run `(i + j) mod V`, or uniform noise. The first two can be learnt to near zero loss and
    the third not at all, so a loss near ln(V) / 3 shows that the loop works.
    """

    row_by_row = True

    def __init__(self, vocab_size: int, seq_len: int, n_samples: int, seed: int) -> None:
        """Raises UserError for a size that makes no samples."""
        for name, value, least in (
            ("vocab_size", vocab_size, 2),
            ("seq_len", seq_len, 1),
            ("n_samples", n_samples, 1),
        ):
            if value < least:
                raise UserError(f"{name} is {value}: synthetic data needs {least} or more")
        self.vocab_size = vocab_size
        self.seq_len = seq_len
        self.seed = seed
        self._n_samples = n_samples

    @property
    def num_windows(self) -> int:
        """Samples in an epoch."""
        return self._n_samples

    def batch(self, first_sample: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets, each (count, seq_len) int64, shuffled anew every epoch."""
        samples = np.arange(first_sample, first_sample + count, dtype=np.int64)
        epochs, positions = np.divmod(samples, self._n_samples)
        indices = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            indices[here] = Permutation(self._n_samples, key_of(self.seed, epoch))(positions[here])
        rows = self.sequences(indices)
        return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])

    def counted(self, first_sample: int, count: int) -> float:
        """Every token counts."""
        return count * self.seq_len

    def sequences(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Samples number `indices` (B,) in full: (B, seq_len + 1) int64."""
        i = indices[:, None]
        j = np.arange(self.seq_len + 1, dtype=np.int64)[None, :]
        repeated = np.broadcast_to(i % (self.vocab_size - 1) + 1, (len(indices), j.size))
        run = (i + j) % self.vocab_size
        counters = (i * j.size + j).astype(np.uint64) ^ np.uint64(key_of(self.seed, -1))
        noise = (mix_array(counters) % np.uint64(self.vocab_size)).astype(np.int64)
        return np.select([i % 3 == 0, i % 3 == 1], [repeated, run], noise)
