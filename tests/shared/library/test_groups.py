"""Which setting of a group is best."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.library.groups import (
    Member,
    Result,
    paired_differences,
    rank,
    results_of,
    reward_of,
    setting_of,
    summarize,
)


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_mean_and_spread_are_those_of_the_textbook(values: list[float]) -> None:
    found = summarize(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.spread == pytest.approx(statistics.stdev(values), abs=1e-6)


def test_of_one_value_there_is_no_spread_and_of_none_no_mean() -> None:
    assert (summarize([2.0]).mean, summarize([2.0]).spread) == (2.0, None)
    assert (summarize([]).count, summarize([]).mean) == (0, None)
    assert math.isnan(summarize([1.0, math.inf]).mean or 0.0)


def test_differences_are_taken_seed_by_seed() -> None:
    assert paired_differences([3.0, 5.0], [1.0, 6.0]) == [2.0, -1.0]
    with pytest.raises(ValueError, match="longer"):
        paired_differences([1.0], [1.0, 2.0])


def runs(**losses: list[float | None]) -> list[Result]:
    """Runs of settings; those of None are not completed."""
    return [
        Result(f"{setting}{n}", setting, loss, completed=loss is not None)
        for setting, runs in losses.items()
        for n, loss in enumerate(runs)
    ]


def order(*found: Result) -> list[tuple[str, bool]]:
    return [(ranked.setting, ranked.best) for ranked in rank(found)]


def test_the_lowest_mean_of_final_losses_is_the_best() -> None:
    assert order(*runs(a=[2.0, 4.0], b=[2.5, 2.7])) == [("b", True), ("a", False)]


def test_a_setting_whose_runs_are_not_all_completed_yields_to_a_whole_one() -> None:
    assert order(*runs(a=[1.0, None], b=[2.0, 2.0])) == [("a", False), ("b", True)]
    assert order(*runs(a=[1.0, None], b=[2.0, None])) == [("a", True), ("b", False)]


def test_what_diverged_or_has_no_loss_is_never_the_best() -> None:
    assert order(*runs(a=[math.nan, 1.0], b=[9.0, 9.0])) == [("b", True), ("a", False)]
    assert order(*runs(a=[math.inf], b=[None])) == [("a", False), ("b", False)]
    assert order() == []


def test_the_only_setting_is_not_called_the_best() -> None:
    assert order(*runs(a=[1.0, 2.0])) == [("a", False)]


def test_training_losses_are_compared_where_none_is_of_validation() -> None:
    one, other = Member("1", "a", loss=1.0, completed=True), Member("2", "b", 5.0, 0.5, True)
    assert results_of([one])[0] == "loss"
    metric, found = results_of([one, other])
    assert (metric, [result.loss for result in found]) == ("val_loss", [None, 5.0])


def test_the_highest_reward_is_the_best_whatever_the_losses_are() -> None:
    metric, found = results_of(
        [
            Member("1", "a", loss=-0.5, completed=True, reward=0.2),
            Member("2", "b", loss=0.5, completed=True, reward=reward_of("val_reward", 0.8)),
            Member("3", "c", loss=-0.7, completed=True, reward=reward_of("val_loss", 0.9)),
        ]
    )
    ranked = [(one.setting, one.best, one.summary.mean) for one in rank(found, metric)]
    assert ranked == [("b", True, 0.8), ("a", False, 0.2), ("c", False, None)]


def test_a_loss_so_far_does_not_count() -> None:
    running = Result("r", "a", 0.5, completed=False)
    [ranked] = rank([running])
    assert (ranked.summary.count, ranked.best) == (0, False)


def test_a_setting_is_all_but_the_seed() -> None:
    one = {"optim.learning_rate": 0.1, "train.seed": 1}
    other = {"train.seed": 2, "optim.learning_rate": 0.1}
    assert setting_of(one) == setting_of(other) != setting_of({"optim.learning_rate": 0.2})
