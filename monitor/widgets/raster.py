"""Polylines as braille."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLANK = "\u2800"
_BITS = np.array([[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]], np.uint8)  # from below

Polyline = tuple[Sequence[float], Sequence[float]]


def braille(polylines: Sequence[Polyline], width: int, height: int) -> list[str]:
    """`height` lines of `width` braille cells, from polylines in dots.

    The dot (0, 0) is the lower left of 2 * width by 4 * height. Coordinates must be finite; what
    lies outside is not drawn.
    """
    grid = np.zeros((max(0, height), max(0, width)), np.uint8)
    for xs, ys in polylines:
        x, y = _dots(np.asarray(xs, np.float64), np.asarray(ys, np.float64))
        inside = (x >= 0) & (x < 2 * width) & (y >= 0) & (y < 4 * height)
        x, y = x[inside], y[inside]
        np.bitwise_or.at(grid, (height - 1 - y // 4, x // 2), _BITS[x % 2, y % 4])
    return ["".join(map(chr, row)) for row in (grid.astype(np.int32) + ord(BLANK)).tolist()]


def _dots(
    x: np.ndarray[tuple[int], np.dtype[np.float64]], y: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Every dot of a line through these points: as many as its longer side has, evenly spaced."""
    sizes = np.maximum(np.abs(np.diff(x)), np.abs(np.diff(y)))
    counts = np.maximum(1, np.ceil(sizes)).astype(np.int64)
    piece = np.repeat(np.arange(len(counts)), counts)
    offset = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)
    share = offset / counts[piece]
    along_x = np.append(x[piece] + share * np.diff(x)[piece], x[-1:])
    along_y = np.append(y[piece] + share * np.diff(y)[piece], y[-1:])
    return np.rint(along_x).astype(np.int64), np.rint(along_y).astype(np.int64)


def merge(below: str, above: str) -> str:
    """Two lines of braille on top of each other: the dots of both."""
    return "".join(chr(ord(a) | ord(b)) for a, b in zip(below, above, strict=True))
