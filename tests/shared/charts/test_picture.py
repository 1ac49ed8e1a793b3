"""What a drawing shows: every step, every name, nothing cut off, nothing on top of another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.charts.colours import LIGHT
from shared.charts.drawing import Box, Drawing, Lines, Shape, Text, fit_text, sign, text_width
from shared.charts.figure import Figure
from shared.charts.marks import SIGNS, Mark
from shared.charts.phases import Band
from shared.charts.picture import HEIGHT, WIDTH, draw_figure
from shared.charts.window import Window
from tests.shared.charts.making import curve, figure, figures

NAN, INF = float("nan"), float("inf")


def lines(drawing: Drawing, ink: str) -> list[Lines]:
    """The lines of a colour, without the legend's and the faint ones behind an average."""
    found = [i for i in drawing.items if isinstance(i, Lines) and i.colour == LIGHT[ink]]
    return [i for i in found if i.width != 3]


def points(found: Iterable[Lines]) -> list[tuple[float, float]]:
    return [point for line in found for piece in line.pieces for point in piece]


def texts(drawing: Drawing) -> list[str]:
    return [item.text for item in drawing.items if isinstance(item, Text)]


def shapes(drawing: Drawing, ink: str) -> list[Shape]:
    return [i for i in drawing.items if isinstance(i, Shape) and i.colour == LIGHT[ink]]


def area(drawing: Drawing) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the plot: its frame is the only line with two corners."""
    (frame,) = [
        i.pieces[0] for i in drawing.items
        if isinstance(i, Lines) and i.width == 1.2 and i.colour == LIGHT["muted"]
    ]  # fmt: skip
    (left, top), (_, bottom), (right, _) = frame
    return left, top, right, bottom


# -- values --------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.99])
def test_one_bad_step_in_a_million_is_a_line_to_its_value(weight: float, whole: bool) -> None:
    values = 2 + np.random.default_rng(0).normal(0, 0.02, 1_000_000)
    values[700_000] = 9.0
    drawing = draw_figure(figure(curve(values, weight=weight), whole=whole))
    left, top, right, _ = area(drawing)
    (spike,) = lines(drawing, "outside")
    (x, low), (_, high) = spike.pieces[0]
    assert x == pytest.approx(left + 0.7 * (right - left), abs=1)
    assert high < top + 15
    assert low - high > (200 if whole else 5)
    assert ("up to 9.00" in texts(drawing)) is not whole


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_one_non_finite_step_in_a_million_is_marked_and_counted(bad: float) -> None:
    values = np.full(1_000_000, 2.0)
    values[250_000] = bad
    drawing = draw_figure(figure(curve(values)))
    left, _, right, bottom = area(drawing)
    _, foot = lines(drawing, "nonfinite")
    (x, _), (_, y) = foot.pieces[0]
    assert x == pytest.approx(left + 0.25 * (right - left), abs=1)
    assert y == bottom
    assert "1 NaN or inf" in texts(drawing)


def test_a_non_finite_value_tears_the_line() -> None:
    drawing = draw_figure(figure(curve([1.0, 2.0, NAN, 3.0, INF])))
    whole, dot = lines(drawing, "train")
    assert [len(piece) for piece in whole.pieces] == [2, 1]
    assert [len(piece) for piece in dot.pieces] == [1]
    assert "2 NaN or inf" in texts(drawing)


def test_every_value_is_where_the_axes_say() -> None:
    drawing = draw_figure(figure(curve([1.0, 3.0, 2.0]), log_y=False))
    left, top, right, bottom = area(drawing)
    (line,) = lines(drawing, "train")
    (first, second, third) = line.pieces[0]
    assert (first[0], third[0]) == (left, right)
    assert second[0] == pytest.approx((left + right) / 2, abs=0.1)
    assert top < second[1] < third[1] < first[1] < bottom
    assert third[1] == pytest.approx((first[1] + second[1]) / 2, abs=0.1)
    labels = {i.text: i.y - 4 for i in drawing.items if isinstance(i, Text)}
    assert labels["2.0"] == pytest.approx(third[1], abs=0.1)


def test_on_a_logarithmic_axis_equal_factors_are_equal_heights() -> None:
    drawing = draw_figure(figure(curve([100.0, 10.0, 1.0, 0.0, -5.0]), log_y=True))
    _, _, _, bottom = area(drawing)
    (line,) = lines(drawing, "train")
    high, middle, low, *lost = [y for _, y in line.pieces[0]]
    assert middle - high == pytest.approx(low - middle, abs=0.2)
    assert lost == [bottom, bottom]
    assert {"down to -5.00", "loss (log)"} <= set(texts(drawing))
    assert shapes(drawing, "outside")


def test_a_part_of_the_steps() -> None:
    drawing = draw_figure(figure(curve(np.arange(100.0)), window=Window(10, 19)))
    (line,) = lines(drawing, "train")
    assert len(line.pieces[0]) == 10
    assert line.pieces[0][0][0] == area(drawing)[0]


def test_an_average_lies_over_the_values() -> None:
    noise = np.random.default_rng(1).normal(2, 0.3, 5000)
    drawing = draw_figure(figure(curve(noise, weight=0.99), smoothing=0.99))
    raw, smooth = lines(drawing, "train")
    assert raw.opacity < 1 == smooth.opacity
    heights = [np.ptp([y for _, y in points([line])]) for line in (raw, smooth)]
    assert heights[1] < heights[0] / 3
    assert "moving average 0.99 over the raw values" in texts(drawing)


@pytest.mark.parametrize(
    "values",
    [[], [1.0], [2.0] * 50, [0.0, 0.0], [NAN] * 3, [INF, -INF], [1e308, -1e308], [5e-324, 1e-323],
     [1e-300, 1e300], [1e9 + i * 1e-6 for i in range(9)]],
)  # fmt: skip
@pytest.mark.parametrize("log", [None, True, False])
def test_odd_values_are_drawn(values: list[float], log: bool | None) -> None:
    drawing = draw_figure(figure(curve(values), log_y=log))
    shown = lines(drawing, "train") or lines(drawing, "nonfinite")
    assert bool(shown) == bool(values)
    assert ("no values" in texts(drawing)) is not bool(values)


def test_nothing_at_all_is_a_picture() -> None:
    assert "no values" in texts(draw_figure(Figure([], Window(0, 0))))


# -- text and signs ------------------------------------------------------------------------


def test_titles_names_phases_and_signs_are_told() -> None:
    shown = figure(
        curve(np.linspace(3, 2, 1000)),
        curve(np.linspace(3, 2, 10), "val", label="val_loss", stride=100),
        title="my run",
        bands=[
            Band(0, "phase-warmup", "warmup"),
            Band(12, "phase-1", "a short stage"),
            Band(30, "phase-full", "full"),
        ],
        marks=[Mark(500, SIGNS["crashed"], "why"), Mark(5000, SIGNS["new_best"], "outside")],
    )
    drawing = draw_figure(shown)
    told = texts(drawing)
    assert {"my run", "loss", "val_loss", "step", "full", "crashed"} <= set(told)
    assert {"warmup", "a short stage"} <= set(told), "below, for want of room"
    assert "best" not in told
    tints = [i for i in drawing.items if isinstance(i, Box)]
    assert [tint.colour for tint in tints] == [
        LIGHT["phase-warmup"], LIGHT["phase-1"], LIGHT["phase-full"],
    ]  # fmt: skip
    assert [shape.note for shape in shapes(drawing, "error") if shape.note] == ["why"]


def test_phases_that_change_too_often_are_no_background() -> None:
    bands = [Band(i, f"phase-{1 + i % 2}", "ab"[i % 2]) for i in range(1000)]
    drawing = draw_figure(figure(curve(np.ones(1000)), bands=bands))
    assert not [i for i in drawing.items if isinstance(i, Box)]


@pytest.mark.parametrize("kind", SIGNS)
def test_every_sign_has_a_shape_and_a_colour(kind: str) -> None:
    one = SIGNS[kind]
    assert one.ink in LIGHT
    assert sign(one.sign, 0, 0, 2) != sign("no such sign", 0, 0, 2)
    corners = [abs(c) for polygon in sign(one.sign, 0, 0, 2) for point in polygon for c in point]
    assert 0.8 <= max(corners) <= 1.5


@given(st.text(max_size=40), st.floats(8, 30), st.floats(0, 300))
def test_text_is_cut_to_its_room(text: str, size: float, room: float) -> None:
    shown = fit_text(text, size, room)
    assert text_width(shown, size) <= room
    assert shown == text or shown.endswith("…") or not shown


def box_of(text: Text) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a text in the widest of the usual fonts."""
    width = text_width(text.text, text.size, bold=text.bold)
    left = text.x - {"start": 0.0, "middle": width / 2, "end": width}[text.anchor]
    return left, text.y - text.size, left + width, text.y + 0.25 * text.size


@settings(max_examples=150, deadline=None)
@given(figures())
def test_any_figure_fits_its_page_and_no_text_covers_another(shown: Figure) -> None:
    drawing = draw_figure(shown)
    left, top, right, bottom = area(drawing)
    assert 0 < left < right <= WIDTH
    assert top + 100 < bottom < HEIGHT
    for item in drawing.items:
        if isinstance(item, Lines):
            for x, y in points([item]):
                assert 0 <= x <= WIDTH
                assert 0 <= y <= HEIGHT
        elif isinstance(item, Shape):
            assert all(math.isfinite(c) for p in item.polygons for point in p for c in point)
    level = [item for item in drawing.items if isinstance(item, Text) and not item.upright]
    boxes = [(box_of(item), item) for item in level if item.text.strip()]
    for (x1, y1, x2, y2), item in boxes:
        assert x1 >= 0
        assert x2 <= WIDTH + 0.5, item
        assert 0 <= y1 < y2 <= HEIGHT
    for (a, one), (b, two) in itertools.combinations(boxes, 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] + 1 or b[3] <= a[1] + 1
        assert apart, (one, two)
