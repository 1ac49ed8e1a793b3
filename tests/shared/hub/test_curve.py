"""No step is lost in the picture of the losses."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from shared.hub.curve import HEIGHT, WIDTH, draw_curve
from shared.hub.png import encode_png
from shared.hub.source import Curve
from shared.run.metrics_rows import Series

BLUE, ORANGE, RED = (0, 114, 178), (230, 159, 0), (213, 94, 0)
EMPTY = Series("val_loss", np.empty(0, np.int64), np.empty(0))


def series(values: Any, key: str = "loss", first: int = 1, stride: int = 1) -> Series:
    array = np.asarray(values, np.float64)
    return Series(key, np.arange(len(array), dtype=np.int64) * stride + first, array)


def picture(loss: Series, val_loss: Series = EMPTY) -> NDArray[np.int64]:
    image = Image.open(io.BytesIO(draw_curve(Curve(loss, val_loss))))
    assert image.size == (WIDTH, HEIGHT)
    return np.asarray(image.convert("RGB")).astype(np.int64)


def where(pixels: NDArray[np.int64], color: tuple[int, int, int], near: int = 60) -> Any:
    """Rows and columns of the pixels that are about that color."""
    return np.nonzero(np.abs(pixels - np.array(color)).sum(axis=2) < near)


def test_one_bad_step_in_a_million_is_a_line_to_the_top() -> None:
    values = 2 + np.random.default_rng(0).normal(0, 0.02, 1_000_000)
    values[700_000] = 40.0
    rows, columns = where(picture(series(values)), BLUE, near=330)
    spike = columns[(rows < 60) & (columns > 84)]  # not the axis
    assert len(spike) > 0
    assert np.ptp(spike) <= 2
    assert abs(spike.mean() - (84 + 0.7 * (WIDTH - 24 - 84))) < 3


def test_steps_without_a_number_are_marked() -> None:
    values = np.full(1000, 3.0)
    values[500] = np.nan
    rows, columns = where(picture(series(values)), RED)
    assert len(rows) > 0
    assert abs(columns.mean() - (84 + 0.5 * (WIDTH - 24 - 84))) < 4
    assert rows.min() > HEIGHT - 70


def test_validation_lies_over_training() -> None:
    rows, _ = where(picture(series([4.0, 3.0, 2.0]), series([3.0, 3.0], "val_loss")), ORANGE)
    assert len(rows) > 500


@pytest.mark.parametrize(
    "values",
    [[1.0], [0.0, 0.0], [-1.0, 5.0], [1e-300, 1e300], [np.inf, 1.0, -np.inf], [np.nan, 2.0]],
)
def test_odd_values_are_drawn(values: list[float]) -> None:
    rows, _ = where(picture(series(values)), BLUE, near=330)
    assert len(rows) > 0


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40).filter(
        lambda v: any(np.isfinite(v))
    ),
    st.integers(1, 1 << 45),
)
@settings(max_examples=25, deadline=None)
def test_any_values_are_drawn(values: list[float], stride: int) -> None:
    picture(series(values, stride=stride))


def test_the_pixels_come_back() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (37, 53, 3), np.uint8)
    image = Image.open(io.BytesIO(encode_png(pixels)))
    image.verify()
    again = np.asarray(Image.open(io.BytesIO(encode_png(pixels))).convert("RGB"))
    assert (again == pixels).all()


def test_nothing_to_draw_is_no_curve() -> None:
    assert not Curve(series([np.nan]), EMPTY)
    assert Curve(series([np.nan, 1.0]), EMPTY)
