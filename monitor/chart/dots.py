"""Curves as braille: two columns and four rows of dots in every cell, all with numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.run.metrics_rows import Floats, Ints

#: The cell without dots; the bits of its dots are added to it (Unicode 15, block U+2800).
BLANK = 0x2800
_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))

Codes = NDArray[np.uint8]


def _interval_table(bits: tuple[int, ...]) -> Codes:
    """At [5 * a + b] the bits of rows a to b - 1, counted from the top of the cell."""
    return np.array([sum(bits[a:b]) for a in range(5) for b in range(5)], np.uint8)


_LEFT, _RIGHT = _interval_table(_BITS[0]), _interval_table(_BITS[1])


def join(low: Floats, high: Floats, broken: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Join the extents of the columns to one curve; NaN where nothing is drawn.

    `low` and `high`, shape (C,), are the lowest and the highest dot of each column, NaN where it
    is empty. A straight line crosses empty columns between the ends that face each other, and
    neighbours that do not touch meet half-way; no line crosses a `broken` column.
    """
    low, high = low.copy(), high.copy()
    filled = np.flatnonzero(np.isfinite(low))
    if len(filled) < 2:
        return low, high
    _cross_gaps(low, high, filled, broken)
    # Neighbours: if one lies wholly above the other, both are extended to the middle.
    with np.errstate(invalid="ignore"):
        rises = np.flatnonzero(low[1:] > high[:-1] + 1)
        falls = np.flatnonzero(high[1:] < low[:-1] - 1)
    middle_up = (high[rises] + low[rises + 1]) // 2
    middle_down = (low[falls] + high[falls + 1]) // 2
    # A peak is reached from both sides: the farther one counts.
    high[rises] = np.maximum(high[rises], middle_up)
    low[rises + 1] = np.minimum(low[rises + 1], middle_up + 1)
    low[falls] = np.minimum(low[falls], middle_down + 1)
    high[falls + 1] = np.maximum(high[falls + 1], middle_down)
    return low, high


def _cross_gaps(low: Floats, high: Floats, filled: Ints, broken: NDArray[np.bool_]) -> None:
    left, right = filled[:-1], filled[1:]
    breaks = np.concatenate(([0], np.cumsum(broken)))
    wide = (right - left > 1) & (breaks[right] == breaks[left + 1])
    left, right = left[wide], right[wide]
    if not len(left):
        return
    above, below = low[left] > high[right], high[left] < low[right]
    shared_dot = np.maximum(low[left], low[right])
    begin = np.where(above, low[left], np.where(below, high[left], shared_dot))
    end = np.where(above, high[right], np.where(below, low[right], shared_dot))
    sizes = right - left - 1
    pair = np.repeat(np.arange(len(left)), sizes)
    offset = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
    share = offset / (right - left)[pair]
    dots = np.rint(begin[pair] + (end - begin)[pair] * share)
    at = left[pair] + offset
    low[at] = high[at] = dots


def codes(low: Floats, high: Floats, rows: int) -> Codes:
    """Dots `low` to `high` (from the bottom) of 2 * C columns as bits, shape (rows, C)."""
    empty = ~np.isfinite(low)
    # Counted from the top; an interval that ends before it begins draws nothing.
    begin = np.where(empty, 4 * rows, 4 * rows - 1 - high).astype(np.int16)
    end = np.where(empty, 0, 4 * rows - low).astype(np.int16)
    tops = np.arange(0, 4 * rows, 4, dtype=np.int16)[:, None]
    index = np.clip(begin - tops, 0, 4) * 5 + np.clip(end - tops, 0, 4)
    found: Codes = _LEFT[index[:, 0::2]] | _RIGHT[index[:, 1::2]]
    return found


def _ascii_of(code: int) -> str:
    """A character that looks about like the dots."""
    rows = [bool(code & (_BITS[0][r] | _BITS[1][r])) for r in range(4)]
    count = code.bit_count()
    if not code:
        return " "
    if count >= 6:
        return "#"
    if sum(rows) >= 3:
        return "|"
    if rows[0] and not rows[2] and not rows[3]:
        return "'" if count < 3 else '"'
    if rows[3] and not rows[0] and not rows[1]:
        return "." if count == 1 else "_" if count == 2 else ","
    return "-" if sum(rows) == 1 or count < 4 else "="


#: The closest ASCII character for every pattern of dots; shape (256,).
ASCII = np.array([ord(_ascii_of(code)) for code in range(256)], np.uint32)
