"""Pairs of answers as tokens: the file that `trainer dpo` prepares, and batches of it."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from shared.errors import RunError, UserError
from shared.files import replace_file
from shared.text import one_line, plural
from trainer.data.marks import Answered
from trainer.data.permutation import Permutation, key_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS = "pairs.safetensors"
IGNORED = -100  # a target that does not count
_ROUND = 8  # rows are padded to a multiple of it


class PairFile:
    """The pairs in a folder, in memory. `digest` names exactly these tokens."""

    def __init__(self, folder: Path) -> None:
        """Raises UserError when there is no such file, RunError when it is damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        self.folder = folder
        path = folder / PAIRS
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"Cannot read {one_line(path)}: {error.strerror}.") from error
        try:
            tensors = load(data)
            self.tokens, self.said = tensors["tokens"], tensors["said"].view(np.bool_)
            self.starts = tensors["starts"]
            self.held = tensors["held"].view(np.bool_)  # for validation
            whole = self.starts[-1] == len(self.tokens) == len(self.said)
            odd = len(self.starts) < 3 or len(self.starts) % 2 == 0
            if odd or not whole or len(self.held) != len(self.starts) // 2:
                raise ValueError("its parts do not belong together")
        except (SafetensorError, KeyError, IndexError, ValueError) as error:
            raise RunError(f"{one_line(path)} is damaged: {one_line(error)}.") from error
        self.digest = hashlib.sha256(data).hexdigest()

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.starts) // 2

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with an answer."""
        return int(np.diff(self.starts).max())

    @property
    def largest_id(self) -> int:
        """The largest token."""
        return int(self.tokens.max())

    def row(self, number: int) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Tokens and answer of a row: 2 i is what pair i prefers, 2 i + 1 the other."""
        part = slice(int(self.starts[number]), int(self.starts[number + 1]))
        return self.tokens[part], self.said[part]


def write_pairs(
    folder: Path, pairs: Iterable[tuple[Answered, Answered]], held: Container[int] = frozenset()
) -> int:
    """Write pairs to a folder, those numbered in `held` for validation, which is asked for after
    the last pair; returns how many. Raises OSError."""
    from safetensors.numpy import save

    tokens: list[NDArray[np.uint32]] = []
    said: list[NDArray[np.uint8]] = []
    starts = [0]
    for pair in pairs:
        for answer in pair:
            tokens.append(np.array(answer.ids, dtype=np.uint32))
            said.append(np.array(answer.said, dtype=np.uint8))
            starts.append(starts[-1] + len(answer.ids))
    count = len(starts) // 2
    if count:
        data = save(
            {
                "tokens": np.concatenate(tokens),
                "said": np.concatenate(said),
                "starts": np.array(starts, dtype=np.int64),
                "held": np.array([n in held for n in range(count)], dtype=np.uint8),
            }
        )
        replace_file(folder / PAIRS, data)
    return count


class PairBatches:
    """Pairs in a shuffled order that is computed from `seed` and the epoch. A sample is a pair: two
    rows, the preferred answer first.

    A row of more than `seq_len` + 1 tokens loses its end, and pairs of which an answer is lost are
    left out.
    """

    #: Rows are padded to the longest beside them.
    row_by_row = False

    def __init__(self, pairs: PairFile, seq_len: int, seed: int, vocab_size: int) -> None:
        """Raises UserError when no pair is left, and for tokens of another vocabulary."""
        self.pairs = pairs
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.seed = seed
        if pairs.largest_id >= vocab_size:
            raise UserError(
                f"{one_line(pairs.folder)} has the token {pairs.largest_id}, but the model has "
                f"{vocab_size}: the pairs belong to another model; prepare them again."
            )
        fits = np.array([self._has_answer(row) for row in range(2 * pairs.count)])
        fits = fits[0::2] & fits[1::2]
        #: Numbers of the pairs to train on, to validate with, and all of them.
        self.usable = np.flatnonzero(fits & ~pairs.held)
        self.held = np.flatnonzero(fits & pairs.held)
        self.fitting = np.flatnonzero(fits)
        if not len(self.usable):
            raise UserError(
                f"In {seq_len} tokens no pair of {one_line(pairs.folder)} has both answers; give a "
                "longer --seq-len."
            )
        self._order = lru_cache(maxsize=2)(self._epoch)
        self._reference: NDArray[np.float32] | None = None

    def notes(self) -> list[str]:
        """What a person should know."""
        left = self.pairs.count - len(self.fitting)
        notes = [f"{plural(left, 'pair')} left out: too long for --seq-len"] if left else []
        cut = int((np.diff(self.pairs.starts) > self.seq_len + 1).sum())
        if cut:
            notes.append(f"{plural(cut, 'answer')} cut off at {self.seq_len + 1:,} tokens")
        return notes

    @property
    def num_windows(self) -> int:
        """Pairs in an epoch."""
        return len(self.usable)

    def use_reference(self, logps: NDArray[np.float32]) -> None:
        """Give every pair the log-probabilities of its answers by the reference, (pairs, 2)."""
        assert logps.shape == (self.pairs.count, 2)
        self._reference = logps

    def batch(self, first_sample: int, count: int) -> Any:
        """Inputs and targets, each (2 count, T) int64, and the log-probabilities of the answers by
        the reference, (2 count,)."""
        return self.with_reference(self.chosen(first_sample, count))

    def with_reference(self, pairs: NDArray[np.int64]) -> Any:
        """The batch of these pairs."""
        inputs, targets = self.rows(pairs)
        assert self._reference is not None, "the reference was not computed"
        return inputs, targets, self._reference[pairs].reshape(-1)

    def rows(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs and targets of these pairs, as long as the longest needs."""
        rows = [self.pairs.row(2 * int(pair) + side) for pair in pairs for side in (0, 1)]
        longest = max(min(len(ids), self.seq_len + 1) for ids, _ in rows) - 1
        width = min(self.seq_len, -(-longest // _ROUND) * _ROUND)
        inputs = np.zeros((len(rows), width), dtype=np.int64)
        targets = np.full_like(inputs, IGNORED)
        for row, (ids, said) in enumerate(rows):
            kept = ids[: width + 1].astype(np.int64)
            inputs[row, : len(kept) - 1] = kept[:-1]
            targets[row, : len(kept) - 1] = np.where(said[1 : len(kept)], kept[1:], IGNORED)
        return inputs, targets

    def counted(self, _first_sample: int, count: int) -> float:
        """Every pair counts."""
        return float(count)

    def _has_answer(self, row: int) -> bool:
        return bool(self.pairs.row(row)[1][1 : self.seq_len + 1].any())

    def chosen(self, first_sample: int, count: int) -> NDArray[np.int64]:
        """The numbers of the pairs of these samples."""
        samples = np.arange(first_sample, first_sample + count, dtype=np.int64)
        epochs, places = np.divmod(samples, self.num_windows)
        chosen = np.empty(count, dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            chosen[here] = self._order(epoch)(places[here])
        return self.usable[chosen]

    def _epoch(self, epoch: int) -> Permutation:
        return Permutation(self.num_windows, key_of(self.seed, epoch))


class HeldPairs:
    """The pairs for validation, or others in their place."""

    def __init__(self, source: PairBatches, pairs: NDArray[np.int64] | None = None) -> None:
        self._source = source
        self._pairs = source.held if pairs is None else pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def batch(self, first: int, count: int) -> Any:
        """The batch of `count` of them, from the one numbered `first` on."""
        return self._source.with_reference(self._pairs[first : first + count])


def reference_path(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Where the log-probabilities of a reference are kept; `facts` are all that they depend on."""
    data = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
    return folder / f"reference-{hashlib.sha256(data).hexdigest()[:16]}.npy"
