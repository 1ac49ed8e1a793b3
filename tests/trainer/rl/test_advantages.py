"""Advantages of answers within their group, and which groups teach something."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.rl.advantages import advantages, varies, weights_of

ONE = np.ones(1)


def test_one_reward_is_not_divided_by_its_spread() -> None:
    rewards = np.array([[0.0, 0.0, 0.0, 1.0], [0.4, 0.6, 0.4, 0.6]])
    found = advantages(rewards[..., None], ONE, each=True)
    assert found == pytest.approx(rewards - rewards.mean(axis=1, keepdims=True))


def test_the_sum_of_several_is_one_reward() -> None:
    parts = np.random.default_rng(0).random((3, 4, 2))
    found = advantages(parts, np.array([5.0, 0.1]), each=False)
    sums = parts.sum(axis=2)
    assert found == pytest.approx(sums - sums.mean(axis=1, keepdims=True))


def test_parts_that_are_normalized_have_a_voice_each() -> None:
    """A part of a hundredth of a point counts as much as one of 0.9, unless it is weighed less."""
    parts = np.array([[[0.9, 0.00], [0.9, 0.01], [0.0, 0.00], [0.0, 0.01]]])
    found = advantages(parts, np.ones(2), each=True)[0]
    assert found[1] - found[0] == pytest.approx(found[0] - found[2], rel=0.05)
    heavy = advantages(parts, np.array([1.0, 0.1]), each=True)[0]
    assert heavy[1] - heavy[0] == pytest.approx(0.1 * (heavy[0] - heavy[2]), rel=0.05)


@given(st.integers(1, 5), st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_they_are_finite_and_add_up_to_nothing_in_a_group(
    prompts: int, answers: int, parts: int, seed: int
) -> None:
    rewards = np.random.default_rng(seed).choice([0.0, 0.3, 0.3 + 1e-12], (prompts, answers, parts))
    for each in (False, True):
        found = advantages(rewards, np.ones(parts), each=each)
        assert np.isfinite(found).all()
        assert np.abs(found.sum(axis=1)).max() < 1e-6


def test_a_part_of_which_only_the_rounding_differs_says_nothing() -> None:
    parts = np.array([[[0.1 + 0.2, 1.0], [0.3, 0.0]], [[0.3, 0.5], [0.1 + 0.2, 0.5]]])
    found = advantages(parts, np.ones(2), each=True)
    assert found[1] == pytest.approx([0, 0])
    assert found[0][0] == -found[0][1] > 0
    assert not varies(parts[1], np.ones(2), each=True)
    assert not varies(parts[1], np.ones(2), each=False)


def test_a_group_teaches_by_any_part_with_a_weight() -> None:
    swapped = np.array([[0.3, 0.0], [0.0, 0.3]])
    assert varies(swapped, np.ones(2), each=True)
    assert not varies(swapped, np.ones(2), each=False), "the sums are the same"
    assert not varies(np.array([[0.3, 0.1], [0.3, 0.2]]), np.array([1.0, 0.0]), each=True)


def test_parts_without_a_weight_weigh_one() -> None:
    assert weights_of(("parse", "tests"), {"tests": 0.3, "other": 9.0}).tolist() == [1.0, 0.3]
