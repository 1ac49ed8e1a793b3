"""Charts as plain text."""

from __future__ import annotations

import unicodedata

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.charts.plain import draw_plain
from tests.shared.charts.making import any_series, curve, figure, hostile


def braille(line: str) -> str:
    return "".join(c for c in line if 0x2800 < ord(c) <= 0x28FF)


def test_a_falling_curve_falls_between_labelled_axes() -> None:
    drawn = draw_plain(figure(curve(np.linspace(4.0, 1.0, 200)), title="one"), 60, 16)
    lines = drawn.split("\n")
    assert len(lines) <= 16
    assert all(len(line) <= 60 for line in lines)
    assert "one" in lines[0]
    assert "step" in lines[-1]
    dotted = [
        (row, line.index(braille(line)[0])) for row, line in enumerate(lines) if braille(line)
    ]
    columns = [column for _, column in dotted]
    assert columns == sorted(columns)
    assert any(line.lstrip().startswith("2┤") for line in lines), drawn
    assert any("100" in line for line in lines)


def test_without_colour_every_curve_has_a_sign() -> None:
    two = figure(curve([3.0, 2.0, 1.0]), curve([1.0, 2.0, 3.0], "val", label="val_loss"))
    drawn = draw_plain(two, 60, 16)
    assert "* val_loss" in drawn
    assert "\x1b" not in drawn
    assert "\x1b[" in draw_plain(two, 60, 16, colour=True)


def test_values_that_are_not_finite_are_counted_and_tear_the_curve() -> None:
    values = [2.0, 2.0, float("nan"), float("inf"), 1.0, 1.0]
    drawn = draw_plain(figure(curve(values)), 60, 16)
    assert "2 NaN or inf" in drawn
    assert "2 NaN or inf" in draw_plain(figure(curve([float("nan")] * 2)), 60, 16)


@given(
    st.lists(st.tuples(any_series(), hostile), max_size=3),
    hostile,
    st.integers(1, 120),
    st.integers(1, 40),
    st.sampled_from([None, True, False]),
)
def test_any_figure_is_drawn_within_its_cells(found, title, width, height, log) -> None:  # type: ignore[no-untyped-def]
    curves = [curve(series.values, label=label) for series, label in found]
    drawn = draw_plain(figure(*curves, title=title, log_y=log), width, height)
    lines = drawn.split("\n")
    assert len(lines) <= max(height, 8)
    assert all(len(line) <= max(width, 30) for line in lines)
    assert not [c for c in drawn if c != "\n" and unicodedata.category(c) in ("Cc", "Cs")]
