"""A whole chart: what is in the numbers is in the picture, at every size."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.chart.canvas import Layer, draw_canvas
from monitor.chart.frame import Plot, draw, lay_out
from monitor.chart.picture import Ink, Picture
from monitor.data.pyramid import PyramidBuilder
from monitor.data.smoothing import Smoother
from shared.charts.figure import Curve, Figure
from shared.charts.marks import SIGNS, Mark
from shared.charts.phases import Band
from shared.charts.reduce import reduce
from shared.charts.scale import ValueScale
from shared.charts.window import Window
from shared.run.metrics_rows import Series
from tests.monitor.support import series
from tests.shared.charts.making import step_range

COLUMNS, ROWS = 60, 10


def canvas(*found: Series, log: bool = False, smooth: float | None = None) -> Picture:
    """Curves a, b, c… on a canvas of their own."""
    first, last = step_range(found) or (0, 0)
    layers = []
    for ink, one in zip("abc", found, strict=False):
        line = None
        if smooth is not None:
            averages = Smoother(smooth).update(one)
            line = reduce(averages, 2 * COLUMNS, first, last).high
        layers.append(Layer(ink, reduce(one, 2 * COLUMNS, first, last), line))
    scale = ValueScale.fit([layer.envelope for layer in layers], log=log)
    return draw_canvas(layers, scale, COLUMNS, ROWS)


def curve(found: Series, ink: str = "train", smooth: float | None = None, **more: Any) -> Curve:
    averages = None if smooth is None else Smoother(smooth).update(found).values
    label = more.pop("label", found.key)
    return Curve(label, ink, PyramidBuilder().update(found), smooth=averages, **more)


def plot(*curves: Curve, **more: Any) -> Plot:
    found = step_range(c.points.series for c in curves) or (0, 0)
    of_figure = {k: more.pop(k) for k in ("log_y", "bands", "marks") if k in more}
    figure = Figure(curves, more.pop("window", Window(*found)), **of_figure)
    return Plot(figure, **more)


SAVED, BEST = SIGNS["checkpoint_saved"], SIGNS["new_best"]


def rows_of(picture: Picture) -> list[str]:
    return picture.text().split("\n")


def inks_at(picture: Picture, sign: str) -> set[Ink]:
    return {picture.palette[n] for n in picture.inks[picture.characters == ord(sign)]}


def drawn(picture: Picture, ink: str) -> np.ndarray:
    """Where this colour is seen."""
    numbers = [i for i, known in enumerate(picture.palette) if known.name == ink]
    return np.isin(picture.inks, numbers) & (picture.characters != ord(" "))


# -- the canvas ----------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("smooth", [None, 0.99])
@pytest.mark.parametrize(
    ("bad", "mark", "at"),
    [(math.nan, "✕", 0), (math.inf, "▲", 0), (-math.inf, "▼", -1), (1e9, "▲", 0), (-1e9, "▼", -1)],
)
def test_one_bad_step_in_a_million_is_seen(
    bad: float, mark: str, at: int, smooth: float | None, log: bool
) -> None:
    values = 2 + np.sin(np.arange(1_000_000) / 1e5)
    values[765_432] = bad
    picture = canvas(series("loss", values), smooth=smooth, log=log)
    if log and bad == -1e9:
        mark = "▽"
    row = rows_of(picture)[at]
    assert [x for x in range(COLUMNS) if row[x] == mark] == [765_432 * COLUMNS // 1_000_000]
    assert inks_at(picture, mark) == {Ink("outside" if math.isfinite(bad) else "nonfinite", "bold")}


def test_a_spike_within_the_scale_reaches_its_height() -> None:
    values = np.linspace(3, 2, 1_000_000)
    values[500_000] = 4.0
    picture = canvas(series("loss", values))
    assert np.flatnonzero(drawn(picture, "a")[0]).tolist() == [30]


def test_a_curve_is_not_joined_across_a_divergence() -> None:
    values = np.ones(120)
    values[50:60] = np.nan
    picture = canvas(series("x", values))
    columns = drawn(picture, "a").any(axis=0)
    assert not columns[25:30].any()
    assert columns[:25].all()
    assert columns[30:].all()


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values",
    [[], [1.0], [1.0] * 50, [0.0] * 3, [math.nan], [math.inf, -math.inf], [1e308, -1e308],
     [5e-324, 1e-323], [-1e300, 0, 1e300], [1e-12, 2e-12], [-1.0, -2.0], [0.0, 1.0]],
)  # fmt: skip
def test_odd_series_are_drawn(values: list[float], log: bool) -> None:
    picture = canvas(series("x", values), log=log)
    assert bool((picture.characters != ord(" ")).any()) == bool(values)


def test_measured_validation_lies_on_top_and_what_joins_it_below() -> None:
    picture = canvas(series("loss", np.ones(60)), series("val_loss", [1.0, 1.0, 1.0], 25))
    assert np.flatnonzero(drawn(picture, "b").any(axis=0)).tolist() == [0, 25, 50]
    apart = canvas(series("loss", np.ones(60)), series("val_loss", [2.0, 2.0, 2.0], 25))
    assert drawn(apart, "b").sum() == 51


def test_both_dots_are_kept_where_curves_meet() -> None:
    over = canvas(series("a", [1.0, 2.0, 1.0]), series("b", [2.0, 1.0, 2.0]))
    alone = canvas(series("a", [1.0, 2.0, 1.0]))
    kept = over.characters & alone.characters
    inked = alone.characters != ord(" ")
    assert (kept[inked] == alone.characters[inked]).all()


def test_a_smoothed_line_stands_out_from_its_band() -> None:
    noise = np.random.default_rng(3).normal(2, 0.2, 20_000)
    picture = canvas(series("loss", noise), smooth=0.999)
    line = {n for n, ink in enumerate(picture.palette) if ink == Ink("a")}
    band = {n for n, ink in enumerate(picture.palette) if ink == Ink("a", "dim")}
    shown = picture.characters != ord(" ")
    in_line = np.isin(picture.inks, list(line)) & shown
    in_band = np.isin(picture.inks, list(band)) & shown
    assert in_line.any(axis=0).all()
    assert in_line.sum() < 2 * COLUMNS
    assert in_band.sum() > 3 * COLUMNS
    # and what was measured without being smoothed is not hidden under it
    values = series("val", np.full(5, 2.0), 4000)
    first, last = 0, 19_999
    layers = [
        Layer("a", reduce(series("loss", noise), 120, first, last), np.full(120, 2.0)),
        Layer("b", reduce(values, 120, first, last)),
    ]
    both = draw_canvas(layers, ValueScale(1, 3), COLUMNS, ROWS)
    assert np.flatnonzero(drawn(both, "b").any(axis=0)).tolist() == [0, 12, 24, 36, 48]


def test_on_a_logarithmic_scale_equal_factors_are_equal_heights() -> None:
    scale = ValueScale(-2.0, 2.0, log=True)
    dots = scale.dots(np.array([0.01, 0.1, 1.0, 10.0, 100.0]), 25)
    assert np.ptp(np.diff(dots)) <= 1
    ticks, labels = scale.ticks(5)
    assert labels == ["0.01", "0.1", "1", "10", "100"]
    assert [scale.row_of(t, 25) for t in ticks] == [24, 18, 12, 6, 0]


@given(st.floats(-323, 308), st.floats(1e-6, 600), st.integers(1, 50))
def test_logarithmic_ticks_are_inside(low: float, span: float, count: int) -> None:
    scale = ValueScale(low, min(308.0, low + span) if low < 308 else low, log=True)
    if scale.low < scale.high:
        ticks, labels = scale.ticks(count)
        assert len(ticks) == len(labels) <= 3 * count + 6
        assert all(-0.01 <= float(scale.place(np.array([t]))[0]) <= 1.01 for t in ticks)


# -- the whole chart -----------------------------------------------------------------------


def test_a_chart_says_what_it_shows() -> None:
    values = np.linspace(3, 2, 1000)
    values[[10, 500]] = math.nan, 1e6
    train, val = series("loss", values), series("val_loss", np.linspace(3, 2.1, 10), 100)
    picture = draw(
        plot(
            curve(train),
            curve(val, "val", label="val"),
            bands=[Band(0, "phase-warmup"), Band(400, "phase-full")],
            marks=[
                Mark(300, SAVED),
                Mark(900, BEST),
                Mark(5000, SAVED),
            ],
            remarks=[("  best 2.100", Ink("muted"))],
            note="approximate",
        ),
        100,
        20,
    )
    heading, *rows, axis, labels = rows_of(picture)
    assert heading.startswith(" ━ loss 2.000  ━ val 2.100   best 2.100")
    assert heading.rstrip().endswith("✕ 1 nan/inf ▲ up to 1e6 approximate")
    assert len(rows) == 17
    assert any(row.lstrip().startswith("3.0 ┤") for row in rows)
    assert axis.count("◆") == 1
    assert axis.count("★") == 1
    assert "200" in labels
    assert "800" in labels
    left, right = picture.grounds[5, 20], picture.grounds[5, 80]
    assert (picture.ground_names[left], picture.ground_names[right]) == (
        "phase-warmup",
        "phase-full",
    )


def test_a_mark_and_a_label_stand_where_the_curve_is() -> None:
    values = np.ones(1000)
    values[730] = 5.0
    shown = plot(curve(series("x", values)), marks=[Mark(730, SAVED)], crosshair=730)
    picture = draw(shown, 90, 16)
    rows = rows_of(picture)
    column = rows[-2].index("┃")
    assert "◆" not in rows[-2]  # the crosshair lies over it
    without = dataclasses.replace(shown, crosshair=None)
    assert rows_of(draw(without, 90, 16))[-2].index("◆") == column
    assert drawn(picture, "train")[1:4, column].any()
    layout, _, _ = lay_out(shown, 90, 16)
    x = layout.x_of(column, shown.figure.window)
    assert x is not None
    assert 730 - 1000 / layout.columns <= x <= 730
    assert layout.x_of(0, shown.figure.window) is None
    assert "step 730" in rows[-1]
    assert "5.000" in rows[0]


def test_the_crosshair_gives_the_value_there_and_the_extremes_around() -> None:
    values = np.tile([1.0, 3.0], 5000)
    at_even = plot(curve(series("x", values)), crosshair=5000)
    heading = rows_of(draw(at_even, 80, 12))[0]
    assert "1.000 1.000…3.000" in heading
    smoothed = plot(curve(series("x", values), smooth=0.99), crosshair=9000)
    assert " 1.99" in rows_of(draw(smoothed, 80, 12))[0]
    before = plot(curve(Series("x", np.array([500]), np.ones(1))), window=Window(0, 1000))
    before = dataclasses.replace(before, crosshair=10.0)
    assert " x - " in rows_of(draw(before, 80, 12))[0]


def test_phases_that_change_too_often_are_no_background() -> None:
    bands = [Band(i * 10, ("phase-predict", "phase-full")[i % 2]) for i in range(100)]
    picture = draw(plot(curve(series("x", np.ones(1000))), bands=bands), 80, 12)
    assert not picture.grounds[1:].any()
    assert inks_at(picture, "━") >= {Ink("phase-predict"), Ink("phase-full")}
    one = draw(plot(curve(series("x", np.ones(1000))), bands=bands[:1]), 80, 12)
    assert not one.grounds[1:].any()


def test_other_axes() -> None:
    found = series("loss", np.linspace(3, 2, 500))
    seconds = 1.79e9 + np.arange(500.0) * 60
    timed = plot(
        curve(found, x=seconds),
        window=Window(1.79e9, float(seconds[-1]), "time", origin=1.79e9),
        crosshair=1.79e9 + 3600,
    )
    rows = rows_of(draw(timed, 80, 12))
    assert "2h" in rows[-1]
    assert "2.880" in rows[0]
    every = draw(
        plot(curve(found, x=np.arange(500.0) * 1e6), window=Window(0, 499e6, "tokens", log=True)),
        80,
        12,
    )
    assert "1M" in rows_of(every)[-1]


SIZES = [(20, 5), (12, 4), (9, 3), (5, 2), (1, 1), (0, 0), (30, 1), (80, 24), (400, 120)]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_is_filled_and_not_more(size: tuple[int, int], ascii_only: bool) -> None:
    noise = np.random.default_rng(5).normal(2, 1, 5000)
    noise[77] = math.nan
    shown = plot(
        curve(series("日本 loss", noise), smooth=0.9),
        *(curve(series(f"run {i}", noise + i), f"curve-{i}") for i in range(8)),
        title="loss",
        bands=[Band(0, "phase-warmup"), Band(2000, "phase-full")],
        marks=[Mark(i * 1000, SAVED) for i in range(6)],
        crosshair=2500,
        ascii=ascii_only,
    )
    picture = draw(shown, *size)
    assert (picture.width, picture.height) == size
    assert picture.text().isascii() or not ascii_only
    if size[0] >= 5 and size[1] >= 1:
        assert (picture.characters != ord(" ")).any()


def test_nothing_is_drawn_for_nothing() -> None:
    picture = draw(plot(curve(series("x", [])), window=Window(0, 10)), 60, 12)
    assert not drawn(picture, "train")[1:].any()
    assert draw(plot(), 60, 12).text()


numbers = st.lists(st.floats(width=64), max_size=60)


@settings(max_examples=60, deadline=None)
@given(
    numbers,
    numbers,
    st.tuples(st.integers(1, 70), st.integers(1, 16)),
    st.tuples(st.booleans(), st.booleans()),
    st.floats(-10, 100),
)
def test_any_two_series_can_be_drawn(
    train: list[float],
    val: list[float],
    size: tuple[int, int],
    logs: tuple[bool, bool],
    crosshair: float,
) -> None:
    found = series("loss", train), series("val_loss", val, 7)
    first, last = step_range(found) or (0, 0)
    shown = plot(
        curve(found[0], smooth=0.9),
        curve(found[1], "val"),
        window=Window(first, last, log=logs[0]),
        log_y=logs[1],
        crosshair=crosshair,
    )
    picture = draw(shown, *size)
    assert (picture.width, picture.height) == size
    bad = sum(not math.isfinite(v) for v in (*train, *val))
    layout, _, _ = lay_out(shown, *size)
    if layout.rows and layout.columns:
        area = drawn(picture, "nonfinite")[layout.top : layout.top + layout.rows]
        assert bool(area.any()) == bool(bad)
