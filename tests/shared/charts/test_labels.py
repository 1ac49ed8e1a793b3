"""Small numbers keep the digits that tell them apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.charts.labels import number, tick_labels


@pytest.mark.parametrize("value", [0.00152, 0.00149, 0.0025, 0.0148, 0.09999, 0.5, 2.431, 999.9])
def test_four_digits_are_shown(value: float) -> None:
    assert float(number(value)) == pytest.approx(value, rel=5e-4)


@given(st.floats(1e-12, 1e12), st.floats(1e-3, 10))
def test_neighbouring_ticks_have_labels_of_their_own(first: float, share: float) -> None:
    ticks = [first * (1 + share * i) for i in range(5)]
    labels = tick_labels(ticks)
    assert len(set(labels)) == 5
    step = ticks[1] - ticks[0]
    assert all(abs(float(label) - t) <= 0.51 * step for label, t in zip(labels, ticks, strict=True))


def test_ticks_around_a_thousandth() -> None:
    labels = tick_labels([0.00096, 0.00098, 0.001, 0.00102, 0.00104])
    assert [float(label) for label in labels] == [0.00096, 0.00098, 0.001, 0.00102, 0.00104]
