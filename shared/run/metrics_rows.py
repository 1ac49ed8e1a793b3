"""Columns of numbers by step, appended in any order and read in order of steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.run import scratch

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Steps, attempts and, by key, the values there: shapes (N,).
Columns = tuple[Ints, NDArray[np.int32], dict[str, Floats]]


@dataclass(frozen=True)
class Series:
    """One metric: `values[i]` at `steps[i]`, steps strictly increasing, both of shape (N,)."""

    key: str
    steps: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)


class Rows:
    """Steps, and the columns that have a value at each of them.

    Rows are appended in file order; they are sorted and deduplicated when they are read.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Floats] = {}
        self.size = 0
        self._steps: Ints = np.empty(64, np.int64)
        # Nearly always there is one attempt: then only its number is stored.
        self._attempt: int | None = None
        self._attempts: NDArray[np.int32] | None = None
        self._last_step = -1
        #: The step of the row appended last.
        self.newest = -1
        self._disorder = False

    def append(self, steps: Ints, attempts: NDArray[np.int32], columns: dict[str, Floats]) -> None:
        """Add rows; `columns` has the values of every column. All shapes (N,), N > 0."""
        end = self.size + len(steps)
        if end > len(self._steps):
            self._grow(max(end, 2 * len(self._steps)))
        self._steps[self.size : end] = steps
        for key, values in columns.items():
            self.columns[key][self.size : end] = values
        self._append_attempts(attempts, end)
        if steps[0] <= self._last_step or bool(np.any(steps[1:] <= steps[:-1])):
            self._disorder = True
        self.newest = int(steps[-1])
        self._last_step = max(self._last_step, int(steps.max()))
        self.size = end

    def _append_attempts(self, attempts: NDArray[np.int32], end: int) -> None:
        first = int(attempts[0])
        if self._attempts is None:
            if self._attempt is None:
                self._attempt = first
            if first == self._attempt and bool((attempts == first).all()):
                return
            self._attempts = scratch.empty(len(self._steps), np.int32)
            self._attempts[: self.size] = self._attempt
        self._attempts[self.size : end] = attempts

    def _grow(self, capacity: int) -> None:
        self._steps = _enlarged(self._steps, self.size, capacity)
        if self._attempts is not None:
            self._attempts = _enlarged(self._attempts, self.size, capacity)
        for key, column in self.columns.items():
            self.columns[key] = _enlarged(column, self.size, capacity)

    def add_columns(self, keys: Iterable[str]) -> None:
        """Add columns, before the first row."""
        self.columns |= {key: np.empty(len(self._steps)) for key in keys}

    def split(self, keys: Iterable[str]) -> Rows:
        """Move these columns to rows of their own, because they no longer appear together."""
        other = Rows()
        other.columns = {key: self.columns.pop(key) for key in keys}
        other.size, other._attempt = self.size, self._attempt
        other._last_step, other._disorder = self._last_step, self._disorder
        other.newest = self.newest
        other._steps = _enlarged(self._steps, self.size, len(self._steps))
        if self._attempts is not None:
            other._attempts = _enlarged(self._attempts, self.size, len(self._steps))
        return other

    def read(self, key: str) -> Series:
        """One column, in order of steps. The returned arrays never change."""
        if self._disorder:
            self._settle()
        return Series(key, self._steps[: self.size], self.columns[key][: self.size])

    def _settle(self) -> None:
        """Sort by step; of equal steps keep the highest attempt, of those the last written."""
        n = self.size
        sorting = (self._steps[:n],)
        order = np.lexsort(sorting if self._attempts is None else (self._attempts[:n], *sorting))
        steps = self._steps[order]
        last = np.append(steps[1:] != steps[:-1], True)
        keep = order[last]
        # New arrays: those returned by an earlier read must not change.
        self._steps = scratch.stored(self._steps[keep])
        if self._attempts is not None:
            self._attempts = scratch.stored(self._attempts[keep])
        self.columns = {key: scratch.stored(c[keep]) for key, c in self.columns.items()}
        self.size = len(keep)
        self._disorder = False

    def rows(self) -> Columns:
        """All rows in the order of appending, with their attempts."""
        n = self.size
        attempts = self._attempts
        if attempts is None:
            attempts = np.full(n, self._attempt or 0, np.int32)
        values = {key: column[:n] for key, column in self.columns.items()}
        return self._steps[:n], attempts[:n], values

    def release(self) -> None:
        """Release memory that can be read from disk."""
        scratch.release(self._steps, *self.columns.values())
        if self._attempts is not None:
            scratch.release(self._attempts)


def _enlarged(array: NDArray[Any], size: int, capacity: int) -> NDArray[Any]:
    larger = scratch.empty(capacity, array.dtype)
    larger[:size] = array[:size]
    scratch.release(array, larger)  # both in memory would be too much
    return larger
