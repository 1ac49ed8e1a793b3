"""Every token is scored once, whatever the sizes, and sees as much as was promised."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluate.likelihood.windows import Window, windows


@given(st.integers(0, 300), st.integers(1, 40), st.data())
def test_every_target_is_scored_once(count: int, length: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, length))
    found = list(windows(count, length, stride))
    assert [i for w in found for i in range(w.first, w.stop)] == list(range(count))
    for window in found:
        assert 0 <= window.start <= window.first < window.stop
        assert window.stop - window.start == min(length, count)
        if window.start:  # past the first one a target sees more than length - stride tokens
            assert window.first - window.start + 1 > length - stride


def test_side_by_side_they_are_those_of_training() -> None:
    assert list(windows(9, 4, 4)) == [Window(0, 0, 4), Window(4, 4, 8), Window(5, 8, 9)]
