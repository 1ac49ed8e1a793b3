"""The extremes of a growing series at every resolution: what a chart of any range is drawn from.

Values are taken in blocks of equal size; level 0 holds the extremes of every full block, each level
above those of two neighbours below. A column of a chart is then the join of O(log N) blocks and of
the few values at its ends that fill no block, so nothing is ever left out, at any zoom.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.charts.reduce import (
    HUGE,
    Envelope,
    empty_envelope,
    flags_of,
    reduce_between,
    step_edges,
)
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Floats, Ints, Series

BLOCK = 32  # values in a block of level 0
#: Ranges of up to so many values are reduced directly: that is quicker than climbing.
DIRECT = 1 << 15


@dataclass(frozen=True, eq=False)
class Pyramid:
    """A series and the extremes of its blocks, as they were when the pyramid was last updated.

    It never changes, so that one thread may draw it while another goes on reading.
    `extremes[k]`, shape (N // (block * 2**k), 2), holds of each block its least value and the
    least of its negated values (one `fmin` joins both), NaN where none is finite. `flags[k]` says
    with NAN | POSITIVE | NEGATIVE what else it holds; `before[i]` counts the non-finite values
    before block i.
    """

    series: Series
    extremes: tuple[Floats, ...]
    flags: tuple[NDArray[np.uint8], ...]
    before: Ints
    block: int = BLOCK
    direct: int = DIRECT

    def __len__(self) -> int:
        return len(self.series)

    def envelope(self, first: int, last: int, columns: int) -> Envelope:
        """The extremes over steps [first, last] in `columns` equal parts.

        Equal to `shared.charts.reduce.reduce`, in O(columns * log N).
        """
        if columns < 1 or not len(self) or last < first:
            return empty_envelope(max(columns, 0))
        edges = step_edges(first, last, columns)
        return self.between(np.searchsorted(self.series.steps, edges))

    def between(self, bounds: NDArray[np.intp]) -> Envelope:
        """The extremes of `series.values[bounds[i]:bounds[i + 1]]` for every column i.

        Equal to `shared.charts.reduce.reduce_between`. This is the way for any other x axis:
        `bounds` is what `searchsorted` finds for its edges.
        """
        if int(bounds[-1]) - int(bounds[0]) <= self.direct or not self.extremes:
            return reduce_between(self.series.values, bounds)
        columns = len(bounds) - 1
        nonfinite = self._nonfinite_before(int(bounds[-1])) - self._nonfinite_before(int(bounds[0]))
        found = np.full((columns, 2), np.nan)
        marks = np.zeros(columns, np.uint8)
        with np.errstate(invalid="ignore"):
            self._join_ends(bounds, found, marks, marked=nonfinite > 0)
            self._join_blocks(bounds, found, marks, marked=nonfinite > 0)
        low, high = np.clip(found[:, 0], -HUGE, HUGE), np.clip(-found[:, 1], -HUGE, HUGE)
        return Envelope(low, high, marks, nonfinite)

    def _join_ends(
        self,
        bounds: NDArray[np.intp],
        found: Floats,
        marks: NDArray[np.uint8],
        *,
        marked: bool,
    ) -> None:
        """Take in the values of each column that fill no block: fewer than 2 * block."""
        starts, ends = bounds[:-1], bounds[1:]
        first, last = _whole_blocks(bounds, self.block)
        whole = first < last
        # Per column: the values before its first whole block and those after its last one.
        pieces = np.empty((len(starts), 2, 2), np.int64)
        pieces[:, 0, 0] = starts
        pieces[:, 0, 1] = np.where(whole, first * self.block, ends)
        pieces[:, 1, 0] = np.where(whole, last * self.block, ends)
        pieces[:, 1, 1] = ends
        begins, sizes = pieces[:, :, 0].ravel(), (pieces[:, :, 1] - pieces[:, :, 0]).ravel()
        offsets = np.cumsum(sizes) - sizes
        total = int(offsets[-1] + sizes[-1])
        if not total:
            return
        values = self.series.values[np.repeat(begins - offsets, sizes) + np.arange(total)]
        filled = np.flatnonzero(sizes[0::2] + sizes[1::2])
        at = offsets[0::2][filled]
        if marked:
            marks[filled] = np.bitwise_or.reduceat(flags_of(values), at)
            values[~np.isfinite(values)] = np.nan
        found[filled, 0] = np.fmin.reduceat(values, at)
        found[filled, 1] = -np.fmax.reduceat(values, at)

    def _join_blocks(
        self,
        bounds: NDArray[np.intp],
        found: Floats,
        marks: NDArray[np.uint8],
        *,
        marked: bool,
    ) -> None:
        """Take in the whole blocks of each column, at every level at most one at either end."""
        left, right = _whole_blocks(bounds, self.block)
        whole = np.flatnonzero(left < right)
        # Both ends climb in one array, the left ones first. They gather apart, because a column
        # may take a block at either end at once.
        size = len(whole)
        ends = np.concatenate((left[whole], right[whole]))
        places = np.arange(2 * size)
        is_left = places < size
        extremes_at, flags_at = np.full((2 * size, 2), np.nan), np.zeros(2 * size, np.uint8)
        for extremes, flags in zip(self.extremes, self.flags, strict=True):
            # An odd left end is no one's elder half, an odd right end no one's younger.
            alone = np.flatnonzero(ends & 1)
            block, place = ends[alone] - ~is_left[alone], places[alone]
            extremes_at[place] = np.fmin(extremes_at[place], extremes[block])
            if marked:
                flags_at[place] |= flags[block]
            ends = (ends + is_left) >> 1
            half = len(ends) // 2
            climbing = ends[:half] < ends[half:]
            if not climbing.all():
                both = np.concatenate((climbing, climbing))
                ends, places, is_left = ends[both], places[both], is_left[both]
                if not len(ends):
                    break
        found[whole] = np.fmin(found[whole], np.fmin(extremes_at[:size], extremes_at[size:]))
        marks[whole] |= flags_at[:size] | flags_at[size:]

    def _nonfinite_before(self, index: int) -> int:
        block = min(index // self.block, len(self.before) - 1)
        rest = self.series.values[block * self.block : index]
        return int(self.before[block]) + len(rest) - int(np.isfinite(rest).sum())


def _whole_blocks(bounds: NDArray[np.intp], block: int) -> tuple[Ints, Ints]:
    """The blocks [first, last) that lie wholly within each column; none where first >= last."""
    first = -(-bounds[:-1] // block)
    return first.astype(np.int64), (bounds[1:] // block).astype(np.int64)


class Growing:
    """An array that grows at its end; what was handed out before never changes."""

    def __init__(self, *shape: int, dtype: Any = np.float64) -> None:
        self._array = np.empty((16, *shape), dtype)
        self.size = 0

    def view(self) -> NDArray[Any]:
        """All that was appended."""
        return self._array[: self.size]

    def append(self, rows: NDArray[Any]) -> None:
        """Add at the end, in amortised O(rows)."""
        end = self.size + len(rows)
        if end > len(self._array):
            self._move(max(end, 2 * len(self._array)))
        self._array[self.size : end] = rows
        self.size = end

    def cut(self, size: int) -> None:
        """Forget all after the first `size`: what comes next goes to a new place."""
        if size < self.size:
            self.size = size
            self._move(max(16, 2 * size))

    def _move(self, capacity: int) -> None:
        old = self._array
        self._array = np.empty((capacity, *old.shape[1:]), old.dtype)
        self._array[: self.size] = old[: self.size]


def unchanged(old: Floats | Ints, new: Floats | Ints) -> int:
    """How many numbers at the beginning of `new` are those of `old`, compared bit by bit.

    In O(1) where `new` is a longer view of the same memory, which is only ever appended to.
    """
    size = min(len(old), len(new))
    if old.strides == new.strides and _address(old) == _address(new):
        return size
    before = np.ascontiguousarray(old[:size]).view(np.int64)
    differ = before != np.ascontiguousarray(new[:size]).view(np.int64)
    return int(differ.argmax()) if differ.any() else size


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class PyramidBuilder:
    """Keeps the pyramid of one growing series, in amortised O(log N) per value.

    A series whose order was mended (a resumed run writes steps again), or that is another one
    altogether, is taken up again from the first value that differs.
    """

    def __init__(self, block: int = BLOCK, direct: int = DIRECT) -> None:
        self._block, self._direct = block, direct
        self._extremes: list[Growing] = []
        self._flags: list[Growing] = []
        self._before = Growing(dtype=np.int64)
        self._before.append(np.zeros(1, np.int64))
        self._pyramid: Pyramid | None = None

    def update(self, series: Series) -> Pyramid:
        """The pyramid of `series` as it is now."""
        old = self._pyramid
        if old is not None and old.series is series:
            return old
        kept = unchanged(old.series.values, series.values) if old is not None else 0
        blocks = self._before.size - 1
        if kept // self._block < blocks:
            blocks = kept // self._block
            self._cut(blocks)
        if len(series) // self._block > blocks:
            end = len(series) // self._block * self._block
            self._take_in(series.values[blocks * self._block : end])
        elif old is not None and len(old.before) == blocks + 1:
            # The usual step: no block was filled by it, and none was cut.
            self._pyramid = dataclasses.replace(old, series=series)
            return self._pyramid
        self._pyramid = Pyramid(
            series,
            tuple(level.view() for level in self._extremes),
            tuple(level.view() for level in self._flags),
            self._before.view(),
            self._block,
            self._direct,
        )
        return self._pyramid

    def _cut(self, blocks: int) -> None:
        self._before.cut(blocks + 1)
        for extremes, flags in zip(self._extremes, self._flags, strict=True):
            extremes.cut(blocks)
            flags.cut(blocks)
            blocks //= 2

    def _take_in(self, values: Floats) -> None:
        """Add whole blocks, and above them every pair that they complete."""
        at = np.arange(0, len(values), self._block)
        extremes = np.empty((len(at), 2))
        flags = np.zeros(len(at), np.uint8)
        counts = np.zeros(len(at), np.int64)
        with np.errstate(all="ignore"):
            if math.isfinite(float(values.sum())):
                extremes[:, 0] = np.minimum.reduceat(values, at)
                extremes[:, 1] = -np.maximum.reduceat(values, at)
            else:
                finite = np.isfinite(values)
                flags[:] = np.bitwise_or.reduceat(flags_of(values), at)
                counts[:] = self._block - np.add.reduceat(finite.astype(np.int64), at)
                values = np.where(finite, values, np.nan)
                extremes[:, 0] = np.fmin.reduceat(values, at)
                extremes[:, 1] = -np.fmax.reduceat(values, at)
        self._before.append(int(self._before.view()[-1]) + np.cumsum(counts))
        level = 0
        while len(extremes):
            if level == len(self._extremes):
                self._extremes.append(Growing(2))
                self._flags.append(Growing(dtype=np.uint8))
            low, marks = self._extremes[level], self._flags[level]
            low.append(extremes)
            marks.append(flags)
            above = self._extremes[level + 1].size if level + 1 < len(self._extremes) else 0
            pairs = slice(2 * above, low.size // 2 * 2)
            below, marked = low.view()[pairs], marks.view()[pairs]
            with np.errstate(invalid="ignore"):
                extremes = np.fmin(below[0::2], below[1::2])
            flags = marked[0::2] | marked[1::2]
            level += 1


class Pyramids:
    """The pyramids of one metrics log: built for the series that are asked for, then kept."""

    def __init__(self) -> None:
        self._builders: dict[str, PyramidBuilder] = {}

    def of(self, series: Series) -> Pyramid:
        """The pyramid of `series`, continued from that of the same key."""
        builder = self._builders.get(series.key)
        if builder is None:
            builder = self._builders[series.key] = PyramidBuilder()
        return builder.update(series)

    def update(self, table: MetricsTable, keys: Iterable[str] | None = None) -> dict[str, Pyramid]:
        """The pyramids of these series of `table`; of all of them by default."""
        return {key: self.of(table.series(key)) for key in (table.keys() if keys is None else keys)}

    def forget(self, keys: Iterable[str]) -> None:
        """Free the memory of series that are no longer shown."""
        for key in keys:
            self._builders.pop(key, None)
