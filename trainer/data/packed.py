"""Whole conversations packed into training sequences, as a pure function of (seed, index)."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import UserError
from shared.text import one_line, plural
from trainer.data.marks import COUNTS, document_bounds
from trainer.data.permutation import Permutation, key_of
from trainer.data.tokens import TokenFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.data.batches import Batch


def pack(lengths: NDArray[np.int64], room: int) -> list[list[int]]:
    """Rows of documents whose lengths add up to at most `room` each: (best fit, longest first).

    A document goes to the fullest row that still has room for it; equal lengths keep their order.
    No document may be longer than `room`.
    """
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}  # by the room they have left
    left: list[int] = []  # the keys of open_rows, sorted
    for document in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[document])
        place = bisect_left(left, length)
        if place == len(left):
            row, free = len(rows), room
            rows.append([])
        else:
            free = left[place]
            row = open_rows[free].pop()
            if not open_rows[free]:
                del open_rows[free], left[place]
        rows[row].append(document)
        free -= length
        if free not in open_rows:
            open_rows[free] = []
            insort(left, free)
        open_rows[free].append(row)
    return rows


class PackedBatches:
    """Conversations of a token file with marks, packed whole into sequences, in the interface of
    `TokenBatches`. An epoch visits every sequence once, in an order computed from `seed`.

    A conversation longer than `seq_len` + 1 tokens loses its end. One of which nothing that counts
    is left is not used. What is left of a sequence is filled with the pad token. With `apart`,
    conversations do not see each other.
    """

    row_by_row = True

    def __init__(self, token_file: TokenFile, seq_len: int, seed: int, *, apart: bool) -> None:
        """Raises UserError for a file without conversations that count."""
        assert token_file.marks is not None and token_file.sidecar is not None
        if seq_len < 1:
            raise UserError(f"seq_len is {seq_len}: it must be 1 or more")
        self.token_file = token_file
        self.seq_len = seq_len
        self.seed = seed
        self.apart = apart
        self.vocab_size = token_file.vocab_size
        self._pad = token_file.sidecar.pad_id
        self._tokens = token_file.view
        self._marks = np.asarray(token_file.marks)
        bounds = document_bounds(self._marks)
        lengths = np.diff(bounds)
        cut = np.flatnonzero(lengths > seq_len + 1)
        self.cut = len(cut)
        kept = np.minimum(lengths, seq_len + 1)
        counts = self._marks & COUNTS
        targets = np.add.reduceat(counts, bounds[:-1], dtype=np.int64)
        for place, start in zip(cut.tolist(), bounds[cut].tolist(), strict=True):
            targets[place] = np.count_nonzero(counts[start : start + seq_len + 1])
        targets -= counts[bounds[:-1]]  # a document's first token is no target
        used = np.flatnonzero(targets)
        self.unused = len(lengths) - len(used)
        if not len(used):
            raise UserError(
                f"{one_line(token_file.path)} has no conversation in whose first {seq_len + 1} "
                "tokens the assistant says something: use a longer --seq-len"
            )
        self._starts, self._lengths = bounds[:-1][used], kept[used]
        self._rows = pack(np.minimum(self._lengths, seq_len), seq_len)
        of_documents = targets[used].tolist()
        self._counted = np.array([sum(of_documents[d] for d in row) for row in self._rows])
        self._order = lru_cache(maxsize=2)(self._epoch)

    @property
    def num_windows(self) -> int:
        """Sequences in an epoch."""
        return len(self._rows)

    def batch(self, first_sample: int, count: int) -> Batch:
        """Inputs, targets, which targets count, and with `apart` positions: (count, seq_len)."""
        return self.of_rows(self._rows_of(first_sample, count))

    def counted(self, first_sample: int, count: int) -> float:
        """How many of the targets count."""
        return int(self._counted[self._rows_of(first_sample, count)].sum())

    def _rows_of(self, first_sample: int, count: int) -> list[int]:
        return [self._row(sample) for sample in range(first_sample, first_sample + count)]

    def _row(self, sample: int) -> int:
        epoch, position = divmod(sample, self.num_windows)
        return int(self._order(epoch)(np.array([position]))[0])

    def _epoch(self, epoch: int) -> Permutation:
        return Permutation(self.num_windows, key_of(self.seed, epoch))

    def of_rows(self, rows: list[int]) -> Batch:
        """The batch of these sequences."""
        shape = (len(rows), self.seq_len)
        inputs = np.full(shape, self._pad, dtype=np.int64)
        targets = np.full(shape, self._pad, dtype=np.int64)
        weights = np.zeros(shape, dtype=np.bool_)
        positions = np.zeros(shape, dtype=np.int64)
        for row, number in enumerate(rows):
            place = 0
            for document in self._rows[number]:
                start, length = int(self._starts[document]), int(self._lengths[document])
                tokens = self._tokens[start : start + length]
                end = place + min(length, self.seq_len)
                inputs[row, place:end] = tokens[: end - place]
                # The last token of a document predicts nothing, unless it was left out as input.
                predicting = slice(place, place + length - 1)
                targets[row, predicting] = tokens[1:]
                weights[row, predicting] = self._marks[start + 1 : start + length] & COUNTS
                positions[row, place:end] = np.arange(end - place)
                place = end
            positions[row, place:] = np.arange(self.seq_len - place)
        if self.apart:
            return inputs, targets, weights, positions
        return inputs, targets, weights

    def ordered(self, batch_size: int, max_batches: int | None = None) -> Iterator[Batch]:
        """Batches for evaluation: always the same sequences, spread evenly over the file."""
        most = self.num_windows if max_batches is None else max_batches * batch_size
        chosen = min(self.num_windows, most)
        rows = (np.arange(chosen, dtype=np.int64) * self.num_windows // chosen).tolist()
        for first in range(0, chosen, batch_size):
            yield self.of_rows(rows[first : first + batch_size])

    def notes(self) -> list[str]:
        """What does not fit a sequence, for a person."""
        told = []
        if self.cut:
            told.append(
                f"{plural(self.cut, 'conversation')} longer than {self.seq_len + 1} tokens "
                f"{'loses its' if self.cut == 1 else 'lose their'} end"
            )
        if self.unused:
            told.append(
                f"{plural(self.unused, 'conversation')} without anything that counts "
                f"{'is' if self.unused == 1 else 'are'} not used"
            )
        return told
