"""pass@k and confidence intervals, against counting and against published values."""

from __future__ import annotations

import itertools
import math

import pytest

from trainer.evaluate.suites.intervals import (
    mean_interval,
    rate_interval,
    share_interval,
    wilson,
)
from trainer.evaluate.suites.pass_at_k import mean_pass_at_k, pass_at_k, possible_ks


@pytest.mark.parametrize(("answers", "right", "k"), [(5, 0, 1), (5, 2, 3), (6, 1, 5), (4, 4, 4)])
def test_pass_at_k_is_the_share_of_choices_with_a_right_one(
    answers: int, right: int, k: int
) -> None:
    outcomes = [True] * right + [False] * (answers - right)
    choices = list(itertools.combinations(outcomes, k))
    assert pass_at_k(answers, right, k) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_pass_at_1_is_the_share_of_right_answers() -> None:
    assert pass_at_k(200, 13, 1) == pytest.approx(13 / 200)
    assert mean_pass_at_k([(4, 1), (4, 3)], 1) == pytest.approx(0.5)


def test_k_needs_as_many_answers() -> None:
    assert [possible_ks(n) for n in (1, 9, 16)] == [(1,), (1, 5), (1, 5, 10, 16)]


def test_wilsons_interval_is_the_published_one() -> None:
    low, high = wilson(0.5, 10)  # Newcombe 1998 gives 0.2366 to 0.7634
    assert (low, high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    assert wilson(0.0, 20)[0] == 0.0 and wilson(0.0, 20)[1] == pytest.approx(0.1611, abs=1e-4)
    assert wilson(1.0, 20)[1] == 1.0


def test_answers_to_one_task_that_are_all_alike_count_once() -> None:
    alike = [(8, 8)] * 5 + [(0, 8)] * 5
    assert rate_interval(alike) == wilson(0.5, 10)
    assert rate_interval([(1, 1)] * 5 + [(0, 1)] * 5) == wilson(0.5, 10)


def test_answers_that_scatter_as_if_independent_count_as_such() -> None:
    even = rate_interval([(4, 8)] * 10)
    assert even == wilson(0.5, 80)
    assert rate_interval([(0, 8)] * 10) == wilson(0.0, 10), "nothing says they are independent"
    assert rate_interval([(3, 8)]) == wilson(3 / 8, 1), "of one task nothing else is known"


def test_the_bootstrap_covers_the_mean_and_is_repeatable() -> None:
    values = [0.0, 0.1, 0.4, 0.5, 0.9, 1.0, 0.2, 0.3]
    low, high = share_interval([(value, 1.0) for value in values])
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values)) / len(values) ** 0.5
    assert low == pytest.approx(mean - 1.96 * deviation, abs=0.03)
    assert high == pytest.approx(mean + 1.96 * deviation, abs=0.03)
    assert share_interval([(value, 1.0) for value in values]) == (low, high)


def test_a_mean_over_parts_weighs_tasks_by_their_parts() -> None:
    low, high = mean_interval([(10.0, 2.0), (10.0, 2.0)])
    assert low == high == 5.0


def test_all_alike_is_no_certainty() -> None:
    assert share_interval([(0.0, 2.0)] * 20) == wilson(0.0, 20)
    assert share_interval([(2.0, 2.0)] * 20) == wilson(1.0, 20)
