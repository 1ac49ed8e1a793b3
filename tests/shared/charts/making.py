"""Series and figures for the tests of charts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from shared.charts.colours import CURVE_INKS
from shared.charts.figure import Curve, Figure, RawPoints, whole_window
from shared.charts.marks import SIGNS, Mark
from shared.charts.phases import Band
from shared.charts.smoothing import MovingAverage
from shared.charts.window import Window
from shared.run.metrics_rows import Series

floats = st.floats(allow_nan=True, allow_infinity=True, width=64)


@st.composite
def any_series(draw: st.DrawFn, key: str = "x") -> Series:
    """Steps with gaps, values of any kind."""
    gaps = draw(st.lists(st.integers(1, 1 << 40), max_size=80))
    values = draw(st.lists(floats, min_size=len(gaps), max_size=len(gaps)))
    return Series(key, np.cumsum(np.array(gaps, np.int64)), np.array(values, np.float64))


def step_range(series: Iterable[Series]) -> tuple[int, int] | None:
    """The first and last step of all `series`, None if they are empty."""
    filled = [s for s in series if len(s)]
    if not filled:
        return None
    return min(int(s.steps[0]) for s in filled), max(int(s.steps[-1]) for s in filled)


def curve(
    values: Any, ink: str = "train", *, label: str = "loss", weight: float = 0.0, stride: int = 1
) -> Curve:
    """A curve of values at every `stride` steps, from step 0."""
    array = np.asarray(values, np.float64)
    series = Series(label, np.arange(len(array), dtype=np.int64) * stride, array)
    smooth = MovingAverage(weight).extend(array) if weight else None
    return Curve(label, ink, RawPoints(series), smooth=smooth)


def figure(*curves: Curve, **fields: Any) -> Figure:
    """A figure of whole curves, its scale chosen by the values."""
    fields = {"title": "run", "y_name": "loss", "log_y": None, "whole": True, **fields}
    return Figure(curves, fields.pop("window", whole_window(curves)), **fields)


#: Text from files: commands to terminals and markup, letters that few fonts have, much of it.
hostile = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "x\x1b]52;c;aGk=\x07</text><script>&\"']]>\ud800",
            "\u202eabc\u200f שלום العربية",
            "日本語の名前 🚀👩\u200d💻",
            "e\u0301" * 50 + "\n\r\t\0",
            "W" * 5000,
            "\ufffe\uffff",
        ]
    ),
)


@st.composite
def figures(draw: st.DrawFn) -> Figure:
    """Any figure: up to eight curves, phases, marks, zoomed or not, on any axis."""
    curves = []
    for i in range(draw(st.integers(0, 4))):
        series = draw(any_series())
        weight = draw(st.sampled_from([0.0, 0.9]))
        smooth = MovingAverage(weight).extend(series.values) if weight else None
        curves.append(Curve(draw(hostile), CURVE_INKS[i], RawPoints(series), smooth=smooth))
    window = whole_window(curves)
    if draw(st.booleans()):
        first = draw(st.integers(0, 1 << 44))
        window = Window(first, first + draw(st.integers(0, 1 << 44)))
    window = Window(window.first, window.last, log=draw(st.booleans()))
    span = max(1.0, window.last - window.first)
    places = st.floats(-0.1, 1.1).map(lambda share: window.first + share * span)
    bands = draw(
        st.lists(
            st.builds(Band, places, st.sampled_from(["phase-full", "phase-1"]), hostile), max_size=5
        )
    )
    signs = st.sampled_from(list(SIGNS.values()))
    return Figure(
        curves,
        window,
        title=draw(hostile),
        y_name=draw(hostile),
        log_y=draw(st.sampled_from([None, True, False])),
        whole=draw(st.booleans()),
        smoothing=0.9,
        bands=bands,
        marks=draw(st.lists(st.builds(Mark, places, signs, hostile), max_size=12)),
    )
