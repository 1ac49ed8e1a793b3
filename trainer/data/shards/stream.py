"""Many files of tokens as one array, mapped into memory as they are needed."""

from __future__ import annotations

import mmap
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import RunError
from shared.text import one_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Each map holds a file open, and a process may usually open 1024.
MOST_OPEN = 256


class ShardedTokens:
    """The tokens of `paths` one after the other: slices are (length,) u32, views where they lie in
    one file.

    At most `most_open` files are mapped at a time, the ones used last. It may be used by several
    threads.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        counts: Sequence[int],
        dtype: str = "<u4",
        most_open: int = MOST_OPEN,
    ) -> None:
        self._paths = tuple(paths)
        self._dtype = np.dtype(dtype)
        self._most_open = most_open
        self._counts = tuple(counts)
        ends = np.cumsum(np.asarray(counts, dtype=np.int64))
        # Where each begins, as Python integers: bisect compares those fastest.
        self._begins: list[int] = [0, *ends.tolist()]
        self._open: OrderedDict[int, NDArray[np.uint32]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._begins[-1]

    def __getitem__(self, part: slice) -> NDArray[np.uint32]:
        start, stop, step = part.indices(len(self))
        if step != 1:
            raise ValueError(f"a stream of tokens has no slices of step {step}")
        if stop <= start:
            return np.empty(0, dtype=np.uint32)
        number = bisect_right(self._begins, start) - 1
        begin, end = self._begins[number], self._begins[number + 1]
        if stop <= end:
            return self._mapped(number)[start - begin : stop - begin].astype(np.uint32, copy=False)
        parts = []
        while start < stop:
            begin, end = self._begins[number], self._begins[number + 1]
            parts.append(self._mapped(number)[start - begin : min(stop, end) - begin])
            start = max(start, end)
            number += 1
        return np.concatenate(parts).astype(np.uint32, copy=False)

    def windows(self, starts: NDArray[np.int64], length: int) -> NDArray[np.uint32]:
        """The tokens from each of `starts` on, (len(starts), length); the end is followed by the
        beginning."""
        rows = np.empty((len(starts), length), dtype=np.uint32)
        # In the order of the files: each is mapped once, however many there are.
        for row in np.argsort(starts).tolist():
            start = int(starts[row])
            part = self[start : start + length]
            rows[row, : len(part)] = part
            if len(part) < length:
                rows[row, len(part) :] = self[: length - len(part)]
        return rows

    def _mapped(self, number: int) -> NDArray[np.uint32]:
        with self._lock:
            found = self._open.get(number)
            if found is not None:
                self._open.move_to_end(number)
                return found
            found = self._map(number)
            self._open[number] = found
            if len(self._open) > self._most_open:
                self._open.popitem(last=False)  # slices that are in use keep it mapped
            return found

    def _map(self, number: int) -> NDArray[np.uint32]:
        count, path = self._counts[number], self._paths[number]
        if not count:
            return np.empty(0, dtype=self._dtype)
        try:
            # np.memmap does the same, and takes twice as long.
            file = os.open(path, os.O_RDONLY)
            try:
                mapped = mmap.mmap(file, count * self._dtype.itemsize, prot=mmap.PROT_READ)
            finally:
                os.close(file)
            return np.frombuffer(mapped, dtype=self._dtype)
        except (OSError, ValueError) as error:
            raise RunError(
                f"cannot read {one_line(path)}, a shard of the training data, which was there when "
                f"the run began: {one_line(error)}"
            ) from error
