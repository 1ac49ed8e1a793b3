"""Charts as pictures: the bad step is seen at every size and zoom, and words where none is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.chart.picture import Ink, Picture
from monitor.chart_state import ChartState
from monitor.data.views import RunDetail
from monitor.plots.curves import CurveStore
from monitor.plots.paint import Drawn, paint, select
from monitor.plots.scene import Scene
from shared.run.metrics_rows import Series
from shared.run.records import PhaseTransition
from tests.monitor.support import NOW, series, view

N = 1_000_000
BAD = 612_345
WIDTHS = [20, 27, 40, 48, 80, 111, 160, 200, 320, 400]


def sound() -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 0.1, N)
    return 2 + 6 * np.exp(-np.arange(N) / 60_000) + noise


def million(bad: float, store: CurveStore, state: ChartState | None = None) -> Scene:
    values = sound()
    values[BAD] = bad
    return made(values, store=store, state=state)


def made(values: Any, *, store: CurveStore | None = None, **more: Any) -> Scene:
    """The scene of a run with this loss."""
    loss = values if isinstance(values, Series) else series("loss", values)
    detail = RunDetail("r", loss, series("val_loss", []), series={"loss": loss})
    fields = more.pop("view", {})
    state = more.pop("state", None) or ChartState()
    return Scene([(view("r", **fields), detail)], state, store or CurveStore(), **more)


def loud(drawn: Drawn) -> list[int]:
    """The columns of the canvas in which something odd is seen, in its own colour."""
    picture, layout = drawn.picture, drawn.layout
    names = [ink.name in ("outside", "nonfinite") for ink in picture.palette]
    rows = slice(layout.top, layout.top + layout.rows)
    columns = slice(layout.gutter, layout.gutter + layout.columns)
    seen = np.array(names)[picture.inks[rows, columns]]
    seen &= ~np.isin(picture.characters[rows, columns], (ord(" "), 0x2800))
    return np.flatnonzero(seen.any(axis=0)).tolist()


@pytest.mark.parametrize("weight", [0.0, 0.99])
@pytest.mark.parametrize("bad", [7.5, 60.0, -2.0, 1e9, math.nan, math.inf, -math.inf])
def test_one_bad_step_in_a_million_is_coloured_at_every_width(bad: float, weight: float) -> None:
    scene = million(bad, CurveStore(), ChartState(weight=weight))
    for width in WIDTHS:
        drawn = paint(scene, "loss", width, 12)
        columns = drawn.layout.columns
        assert loud(drawn) == [BAD * columns // N], width


@pytest.mark.parametrize("bad", [7.5, 1e9, math.nan])
def test_and_at_every_zoom(bad: float) -> None:
    store = CurveStore()
    state = ChartState()
    limits = (0.0, N - 1.0)
    for _ in range(15):
        state = state.zoomed(0.45, BAD + 1, limits)
        scene = million(bad, store, state) if not state.is_zoomed else _seen(bad, store, state)
        window = scene.window
        if window.last - window.first < 60:
            break
        for width in (20, 57, 133, 400):
            drawn = paint(scene, "loss", width, 12)
            (column,) = loud(drawn)
            at = int(window.columns_of([BAD], drawn.layout.columns)[0])
            assert column == at, (width, window)


_KEPT: dict[float, Series] = {}


def _seen(bad: float, store: CurveStore, state: ChartState) -> Scene:
    if bad not in _KEPT:
        values = sound()
        values[BAD] = bad
        _KEPT[bad] = series("loss", values)
    return made(_KEPT[bad], store=store, state=state)


def test_a_sound_curve_is_calm() -> None:
    scene = made(sound())
    for width in WIDTHS:
        assert loud(paint(scene, "loss", width, 12)) == []


# -- words and letters ---------------------------------------------------------------------


def test_one_point_is_told() -> None:
    text = paint(made([2.5]), "loss", 60, 12).picture.text()
    assert "one point so far: 2.500 at step 0" in text


def test_no_data_and_nothing_here() -> None:
    scene = made(series("loss", np.ones(100)))
    assert "no data yet" in paint(scene, "gone", 60, 12).picture.text()
    few = made(series("loss", [1.0, 1.0], 1000), state=ChartState(span=100, end=500))
    assert "nothing in this part" in paint(few, "loss", 60, 12).picture.text()


def test_letters_tell_curves_apart_without_colours() -> None:
    both = {
        "loss": series("loss", np.linspace(9, 8, 200)),
        "val_loss": series("val_loss", np.linspace(2, 1, 20), 10),
    }
    detail = RunDetail("r", both["loss"], both["val_loss"], series=both)
    state = ChartState()
    plain = Scene([(view("r"), detail)], state, CurveStore(), plain=True)
    picture = paint(plain, "loss", 80, 14).picture
    rows = picture.text().split("\n")[1:-2]
    upper, lower = "".join(rows[:5]), "".join(rows[-6:])
    assert upper.count("A") >= 2
    assert "B" not in upper
    assert lower.count("B") >= 2
    coloured = Scene([(view("r"), detail)], state, CurveStore())
    assert "A" not in paint(coloured, "loss", 80, 14).picture.text()


def test_phases_are_named_where_there_is_room() -> None:
    transitions = (
        PhaseTransition(0, "", "warmup", NOW),
        PhaseTransition(30, "", "full", NOW),
        PhaseTransition(99, "", "correct", NOW),
    )
    scene = made(np.linspace(1, 0.1, 100), view={"transitions": transitions})
    first = paint(scene, "loss", 90, 14, phases=True).picture.text().split("\n")[1]
    assert "full" in first
    assert "correct" not in first
    assert "full" not in paint(scene, "loss", 90, 14).picture.text()


def test_the_cursor_is_seen_without_colours() -> None:
    picture = Picture(20, 3)
    select(picture)
    assert picture.text().startswith("▌")


def test_ascii_is_ascii() -> None:
    values = np.linspace(9, 1, 300)
    values[100], values[200] = np.nan, 99
    scene = made(values, ascii=True, state=ChartState(weight=0.9, crosshair=50.0))
    assert paint(scene, "loss", 80, 14, phases=True).picture.text().isascii()


numbers = st.lists(st.floats(width=64), max_size=80)


@settings(max_examples=60, deadline=None)
@given(
    numbers,
    st.tuples(st.integers(0, 130), st.integers(0, 30)),
    st.booleans(),
    st.booleans(),
    st.builds(
        ChartState,
        log_x=st.booleans(),
        weight=st.sampled_from([0.0, 0.9]),
        crosshair=st.one_of(st.none(), st.floats(-100, 200)),
    ),
)
def test_anything_can_be_painted(
    values: list[float], size: tuple[int, int], plain: bool, log: bool, state: ChartState
) -> None:
    width, height = size
    state = state.toggled_log_y("loss") if log else state
    scene = made(values, plain=plain, state=state)
    drawn = paint(scene, "loss", width, height, phases=True)
    assert (drawn.picture.width, drawn.picture.height) == (width, height)
    assert Ink("foreground") in drawn.picture.palette
