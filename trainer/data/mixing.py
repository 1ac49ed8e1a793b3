"""Several sources mixed by weights: which sample comes from which is computed from its index.

The first of n sources takes its share of the indices as evenly as whole numbers can (a Beatty
sequence), the second takes its share of the rest in the same way, and so on. In any stretch of
samples each source has its share to within fewer samples than there are sources, and its samples
come in its own order, numbered without gaps. So a batch stays a pure function of (seed, index), and
a source that is used up begins its next epoch by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from trainer.data.batches import SampleSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.data.batches import Batch

_BITS = 32
_ONE = 1 << _BITS
_LOW = np.uint64(_ONE - 1)


@dataclass(frozen=True)
class Part:
    """A source, by the name under which it is told, and its share of all samples."""

    name: str
    share: float
    source: SampleSource


class Shares:
    """Which of several sources each index belongs to, by their weights."""

    def __init__(self, weights: Sequence[float]) -> None:
        left = [sum(weights[number:]) for number in range(len(weights))]
        # Of what the sources before leave, each takes so many of 2**32; the last takes all.
        shares = [max(1, round(w / rest * _ONE)) for w, rest in zip(weights, left, strict=True)]
        self._shares = [np.uint64(min(share, _ONE)) for share in (*shares[:-1], _ONE)]

    def taken(self, first: int, count: int) -> list[NDArray[np.int64]]:
        """For each source how many of the indices before `first`, `first` + 1 … `first` + `count`
        are its own, (count + 1,)."""
        found = []
        left = np.arange(first, first + count + 1, dtype=np.uint64)
        for share in self._shares:
            low = (left & _LOW) * share
            # Half a step ahead, so that no source comes late.
            low = low + np.uint64(_ONE >> 1) if share < _ONE else low
            own = (left >> np.uint64(_BITS)) * share + (low >> np.uint64(_BITS))
            found.append(own.astype(np.int64))
            left = left - own
        return found


class MixedBatches:
    """Samples of several sources in the interface of `TokenBatches`."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        sources = [part.source for part in parts]
        self.seq_len = sources[0].seq_len
        self.vocab_size = sources[0].vocab_size
        self.row_by_row = all(source.row_by_row for source in sources)
        self._shares = Shares([part.share for part in parts])

    @property
    def num_windows(self) -> int:
        """Samples of all sources together: an epoch of the mixture has so many."""
        return sum(part.source.num_windows for part in self.parts)

    def batch(self, first_sample: int, count: int) -> Batch:
        """Inputs and targets, and where a source has them weights and positions: (count, T)."""
        rows, batches = [], []
        for part, taken in zip(self.parts, self._shares.taken(first_sample, count), strict=True):
            if own := int(taken[-1] - taken[0]):
                rows.append(np.flatnonzero(np.diff(taken)))
                batches.append(part.source.batch(int(taken[0]), own))
        return _interleaved(rows, batches, count)

    def counted(self, first_sample: int, count: int) -> float:
        """How much of these samples counts in the loss."""
        total = 0.0
        for part, taken in zip(self.parts, self._shares.taken(first_sample, count), strict=True):
            if own := int(taken[-1] - taken[0]):
                total += part.source.counted(int(taken[0]), own)
        return total

    def samples_of_each(self, first_sample: int, count: int) -> list[int]:
        """How many of these samples each source has."""
        before, after = (self._shares.taken(at, 0) for at in (first_sample, first_sample + count))
        return [int(b[0] - a[0]) for a, b in zip(before, after, strict=True)]


def _interleaved(rows: Sequence[NDArray[np.int64]], batches: Sequence[Batch], count: int) -> Batch:
    """One batch of `count` rows from several that lack some of its rows."""
    if len(batches) == 1:
        return batches[0]
    most = max(len(batch) for batch in batches)
    whole = []
    for place in range(most):
        kinds = [batch[place].dtype for batch in batches if len(batch) > place]
        length = batches[0][0].shape[1]
        joined = np.empty((count, length), dtype=np.result_type(*kinds))
        for own, batch in zip(rows, batches, strict=True):
            if place < len(batch):
                joined[own] = batch[place]
            else:  # everything counts, and positions are those in the window
                joined[own] = 1 if place == 2 else np.arange(length)
        whole.append(joined)
    return cast("Batch", tuple(whole))
