"""The curves themselves: envelopes drawn over each other, with marks for odd values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.chart import dots
from monitor.chart.picture import Picture
from shared.charts.reduce import NAN, NEGATIVE, POSITIVE, Envelope
from shared.charts.scale import ValueScale
from shared.run.metrics_rows import Floats

OUTSIDE, NONFINITE = "outside", "nonfinite"
_SPACE = 32


@dataclass(frozen=True)
class Layer:
    """One curve to draw: its extremes, and over them its smoothed `line` if there is one.

    Both are two to a cell: shapes (2 * columns,).
    """

    ink: str
    envelope: Envelope
    line: Floats | None = None


def draw_canvas(layers: Sequence[Layer], scale: ValueScale, columns: int, rows: int) -> Picture:
    """`rows` by `columns` cells; later layers lie over earlier ones.

    Where curves meet, the dots of all are kept, in the colour of the uppermost. Of a curve with
    gaps, such as a validation loss, the measured columns lie on top and the joining lines below. A
    smoothed line takes whole cells, so that it stands out from its band; so do, beside smoothed
    curves, the measured columns of a curve that is not smoothed.
    """
    picture = Picture(columns, rows)
    painted = np.zeros((rows, columns), np.uint8)
    joins: list[tuple[dots.Codes, int]] = []
    extents: list[tuple[dots.Codes, int]] = []
    lines: list[tuple[dots.Codes, int]] = []
    for layer in layers:
        envelope = layer.envelope
        known = np.isfinite(envelope.low)
        low, high = scale.dots(envelope.low, rows), scale.dots(envelope.high, rows)
        found = dots.codes(*dots.join(low, high, ~known & (envelope.marks > 0)), rows)
        ink = picture.ink(layer.ink, "" if layer.line is None else "dim")
        measured = known[0::2] | known[1::2]
        joins.append((found, ink))
        extents.append((np.where(measured, found, np.uint8(0)), ink))
        if layer.line is not None:
            at = np.where(known, scale.dots(layer.line, rows), np.nan)
            found = dots.codes(*dots.join(at, at, ~known & (envelope.marks > 0)), rows)
            lines.append((found, picture.ink(layer.ink)))
    for found, ink in (*joins, *extents):
        painted |= found
        picture.inks[found > 0] = ink
    if lines:
        lines += [e for e, layer in zip(extents, layers, strict=True) if layer.line is None]
        over = np.zeros_like(painted)
        for found, ink in lines:
            over |= found
            picture.inks[found > 0] = ink
        painted = np.where(over > 0, over, painted)
    picture.characters[:] = np.where(painted > 0, painted + np.uint32(dots.BLANK), _SPACE)
    for layer in layers:
        _mark_outside(picture, layer.envelope, scale)
    for layer in layers:  # on top: nothing matters more
        _mark_nonfinite(picture, layer.envelope)
    return picture


def _mark_outside(picture: Picture, envelope: Envelope, scale: ValueScale) -> None:
    """Marks columns outside the scale at its edge; values without a logarithm at the bottom."""
    ink = picture.ink(OUTSIDE, "bold")
    with np.errstate(invalid="ignore"):
        _put(picture, 0, _by_cell(scale.place(envelope.high) > 1), "▲", ink)
        _put(picture, -1, _by_cell(scale.place(envelope.low) < 0), "▼", ink)
        if scale.log:
            _put(picture, -1, _by_cell(envelope.low <= 0), "▽", ink)


def _mark_nonfinite(picture: Picture, envelope: Envelope) -> None:
    """Marks columns with non-finite values, from top to bottom."""
    marks = envelope.marks[0::2] | envelope.marks[1::2]
    if not marks.any():
        return
    ink = picture.ink(NONFINITE, "bold")
    blank = (picture.characters == _SPACE) & (marks > 0)
    picture.characters[blank] = ord("╎")
    picture.inks[blank] = ink
    _put(picture, -1, marks & NEGATIVE > 0, "▼", ink)
    _put(picture, 0, marks & POSITIVE > 0, "▲", ink)
    _put(picture, 0, marks & NAN > 0, "✕", ink)


def _by_cell(columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(columns[0::2] | columns[1::2])


def _put(picture: Picture, y: int, where: NDArray[np.bool_], sign: str, ink: int) -> None:
    picture.characters[y, where] = ord(sign)
    picture.inks[y, where] = ink
