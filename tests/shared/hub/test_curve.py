"""The picture on a model card."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from shared.charts.colours import LIGHT
from shared.charts.picture import HEIGHT, WIDTH
from shared.charts.png import SCALE
from shared.hub.curve import draw_curve
from shared.hub.source import Curve
from shared.run.metrics_rows import Series
from shared.run.records import PhaseTransition

EMPTY = Series("val_loss", np.empty(0, np.int64), np.empty(0))


def series(values: Any, key: str = "loss", first: int = 1) -> Series:
    array = np.asarray(values, np.float64)
    return Series(key, np.arange(len(array), dtype=np.int64) + first, array)


def picture(data: bytes) -> NDArray[np.int64]:
    image = Image.open(io.BytesIO(data))
    assert image.size == (SCALE * WIDTH, SCALE * HEIGHT)
    return np.asarray(image.convert("RGB")).astype(np.int64)


def where(pixels: NDArray[np.int64], ink: str, near: int = 60) -> Any:
    """Rows and columns of the pixels that are about that colour, in pixels of the drawing."""
    colour = np.array(ImageColor.getrgb(LIGHT[ink]))
    rows, columns = np.nonzero(np.abs(pixels - colour).sum(axis=2) < near)
    below = rows > 60 * SCALE  # the legend is above
    return rows[below] / SCALE, columns[below] / SCALE


def test_one_bad_step_in_a_million_is_a_line_to_the_top() -> None:
    values = 2 + np.random.default_rng(0).normal(0, 0.02, 1_000_000)
    values[700_000] = 40.0
    rows, columns = where(picture(draw_curve(Curve(series(values), EMPTY))), "outside")
    assert np.ptp(rows) > 200
    assert np.ptp(columns) <= 3
    assert 650 < columns.mean() < 750


def test_non_finite_steps_are_marked() -> None:
    values = np.full(1000, 3.0)
    values[500] = np.nan
    rows, _ = where(picture(draw_curve(Curve(series(values), EMPTY))), "nonfinite")
    assert len(rows) > 0
    assert rows.min() > HEIGHT / 2


def test_validation_lies_over_training() -> None:
    shown = Curve(series([4.0, 3.0, 2.0]), series([3.0, 3.0], "val_loss"))
    rows, _ = where(picture(draw_curve(shown)), "val")
    assert len(rows) > 500


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.0, 0.0], [-1.0, 5.0], [1e-300, 1e300], [np.inf, 1.0, -np.inf], [np.nan, 2.0]],
)
def test_odd_values_are_drawn(values: list[float]) -> None:
    rows, _ = where(picture(draw_curve(Curve(series(values), EMPTY))), "train", near=200)
    assert len(rows) > 0


def test_the_name_and_the_phases_are_in_it() -> None:
    loss = Curve(series(np.linspace(3, 2, 100)), EMPTY)
    transitions = [
        PhaseTransition(0, "", "warmup", 0.0),
        PhaseTransition(50, "warmup", "full", 0.0),
    ]
    plain, named, phased = (
        picture(draw_curve(loss, title, phases))
        for title, phases in (("", []), ("name", []), ("", transitions))
    )
    assert (plain != named).any(axis=2)[: 40 * SCALE].any()
    assert np.mean((plain != phased).any(axis=2)) > 0.5


def test_nothing_to_draw_is_no_curve() -> None:
    assert not Curve(series([np.nan]), EMPTY)
    assert Curve(series([np.nan, 1.0]), EMPTY)
