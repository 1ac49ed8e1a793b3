"""The answers of an iteration as batches of its optimizer steps.

B answers, T positions. A step's answers do not depend on how many processes train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trainer.data.permutation import Permutation, key_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.rl.prompts import Prompts

IGNORED = -100  # a target that does not count
_ROUND = 8  # rows are padded to a multiple of it


@dataclass(frozen=True)
class Row:
    """An answer to learn from: a prompt's ids and the answer's tokens.

    `old` and `reference` are the log-probabilities of the answer's tokens by the model that wrote
    it and by the reference. `old` is None where that is the model that is trained, `reference`
    where nothing is compared with it, which holds for all rows of an iteration or for none. An
    answer that is `masked` does not count in the loss.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    advantage: float
    reference: NDArray[np.float32] | None = None
    old: NDArray[np.float32] | None = None
    masked: bool = False

    @property
    def length(self) -> int:
        """Positions that it takes."""
        return len(self.prompt) + len(self.answer) - 1


class RolloutBatches:
    """The present iteration's answers to some of the `prompts`, in the interface of a source of
    samples.

    It has none until `fill`; what `batch` then gives has the size of the longest answers there can
    be, to find out how much memory a step takes.
    """

    #: Rows are padded to the longest beside them.
    row_by_row = False

    def __init__(self, prompts: Prompts, seq_len: int, vocab_size: int, answers: int) -> None:
        self.prompts = prompts
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        #: Answers of an iteration.
        self.num_windows = answers
        self._rows: list[Row] = []
        self._shares: list[float] = []
        self._first = 0

    def fill(
        self, rows: Sequence[Row], first_sample: int, per_step: int, epochs: int, seed: int
    ) -> None:
        """Give out `rows` from `first_sample` on, `per_step` at a time, `epochs` times.

        Every epoch cuts them into steps anew. Within a step they are ordered by length, so that
        little of a micro-batch is padding.
        """
        self._first = first_sample
        self._rows, self._shares = [], []
        for epoch in range(epochs):
            chosen = np.arange(len(rows))
            if len(rows) > per_step:
                chosen = Permutation(len(rows), key_of(seed, first_sample, epoch))(chosen)
            for start in range(0, len(rows), per_step):
                step = [rows[place] for place in chosen[start : start + per_step].tolist()]
                step.sort(key=lambda row: row.length)
                counted = sum(len(row.answer) for row in step)
                self._rows += step
                self._shares += [len(step) / counted if counted else 0.0] * len(step)

    def batch(self, first_sample: int, count: int) -> Any:
        """Inputs and targets, each (B, T) int64, and (B, 3 or 4, T) float32 for each position: its
        advantage (NaN: it does not count in the loss), the old log-probability (NaN: that of now),
        what turns sums over tokens into the step's means (the step's answers over its tokens), and
        the reference's log-probability where the rows have one.
        """
        if not self._rows:
            return self._longest(count)
        start = first_sample - self._first
        assert start >= 0 and start + count <= len(self._rows), "not of this iteration"
        rows = self._rows[start : start + count]
        width = min(-(-max(row.length for row in rows) // _ROUND) * _ROUND, self.seq_len)
        inputs = np.zeros((count, width), dtype=np.int64)
        targets = np.full_like(inputs, IGNORED)
        kinds = 3 if rows[0].reference is None else 4
        more = np.zeros((count, kinds, width), dtype=np.float32)
        more[:, 1] = np.nan
        for number, row in enumerate(rows):
            ids = np.array(row.prompt + row.answer, dtype=np.int64)
            inputs[number, : len(ids) - 1] = ids[:-1]
            said = slice(len(row.prompt) - 1, len(ids) - 1)
            targets[number, said] = ids[len(row.prompt) :]
            more[number, 0] = np.nan if row.masked else row.advantage
            if row.old is not None:
                more[number, 1, said] = row.old
            more[number, 2] = self._shares[start + number]
            if row.reference is not None:
                more[number, 3, said] = row.reference
        return inputs, targets, more

    def counted(self, _first_sample: int, count: int) -> float:
        """Every answer counts."""
        return float(count)

    def _longest(self, count: int) -> Any:
        ids = np.zeros((count, self.seq_len), dtype=np.int64)
        return ids, ids.copy(), np.zeros((count, 4, self.seq_len), dtype=np.float32)
