"""What curves are drawn from, as a run grows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from monitor.data.pyramid import PyramidBuilder
from monitor.data.views import RunDetail
from monitor.plots.curves import CurveStore, RunCurves, series_of
from shared.run.metrics_rows import Series
from tests.monitor.support import series


def detail(run_id: str = "r", **found: Any) -> RunDetail:
    """A run with these series."""
    given = {key: s if isinstance(s, Series) else series(key, s) for key, s in found.items()}
    nothing = series("loss", [])
    return RunDetail(run_id, given.get("loss", nothing), series("val_loss", []), series=given)


def grown(whole: RunDetail, size: int) -> RunDetail:
    """The same run when it had taken fewer steps; its arrays are views of the same memory."""
    cut = {k: Series(k, s.steps[:size], s.values[:size]) for k, s in whole.series.items()}
    return dataclasses.replace(whole, series=cut)


def test_series_come_with_the_losses_first_and_without_what_is_empty_or_a_clock() -> None:
    found = series_of(detail(b=[1.0], time=[5.0], val_loss=[2.0], a=[1.0], c=[], loss=[3.0]))
    assert list(found) == ["loss", "val_loss", "b", "a"]


def test_a_detail_without_series_has_its_losses() -> None:
    old = RunDetail("r", series("reward", [1.0]), series("val_loss", [1.0], 5))
    assert list(series_of(old)) == ["val_loss", "reward"]


def test_a_pyramid_that_came_with_the_detail_is_used() -> None:
    one = detail(loss=np.arange(100.0))
    ready = PyramidBuilder().update(one.series["loss"])
    curves = RunCurves()
    curves.update(dataclasses.replace(one, pyramids={"loss": ready}))
    assert curves.pyramid("loss") is ready
    stale = PyramidBuilder().update(series("loss", [1.0]))
    curves.update(dataclasses.replace(one, pyramids={"loss": stale}))
    assert len(curves.pyramid("loss")) == 100


def test_averages_are_continued() -> None:
    whole = detail(loss=np.random.default_rng(0).normal(size=1000))
    curves = RunCurves()
    for size in (10, 500, 1000):
        curves.update(grown(whole, size))
        got = curves.average("loss", 0.9)
    fresh = RunCurves()
    fresh.update(whole)
    np.testing.assert_allclose(got, fresh.average("loss", 0.9))


# -- x -------------------------------------------------------------------------------------


def test_time_comes_from_the_clock_and_counts_from_the_first_step() -> None:
    curves = RunCurves()
    curves.update(detail(loss=np.ones(4), time=[1000.0, 1002.0, 1003.0, 1010.0]))
    assert curves.axes.range("time") == (0, 10)
    placed = curves.axes.of(curves.series["loss"], "time")
    assert placed is not None
    assert placed.x.tolist() == [0, 2, 3, 10]


def test_without_a_clock_it_is_the_sum_of_the_step_times_however_the_run_grew() -> None:
    times = np.array([100.0, 50.0, np.nan, 250.0, -5.0, np.inf, 100.0])
    whole = detail(loss=np.ones(7), step_time_ms=times)
    curves = RunCurves()
    for size in (2, 3, 6, 7):
        curves.update(grown(whole, size))
        curves.axes.range("time")
    placed = curves.axes.of(curves.series["loss"], "time")
    assert placed is not None
    assert placed.x.tolist() == pytest.approx([0.1, 0.15, 0.15, 0.4, 0.4, 0.4, 0.5])


def test_tokens_and_a_run_that_counts_none() -> None:
    curves = RunCurves()
    curves.update(detail(loss=np.ones(3), tokens_total=[10.0, 20.0, 30.0]))
    assert curves.axes.has("tokens")
    assert curves.axes.range("tokens") == (10, 30)
    assert not curves.axes.has("time")
    assert curves.axes.of(curves.series["loss"], "time") is None


def test_places_are_converted_there_and_back() -> None:
    curves = RunCurves()
    curves.update(detail(loss=np.ones(3), tokens_total=[100.0, 300.0, 700.0]))
    assert curves.axes.convert([0, 1, 1.5], "step", "tokens") == [100, 300, 500]
    assert curves.axes.convert([100, 300, 500], "tokens", "step") == [0, 1, 1.5]
    assert curves.axes.convert([1.5], "step", "step") == [1.5]


def test_a_run_that_was_replaced_starts_again() -> None:
    curves = RunCurves()
    curves.update(detail(loss=np.ones(50), step_time_ms=np.full(50, 100.0)))
    curves.axes.range("time")
    curves.update(detail(loss=np.ones(3), step_time_ms=np.full(3, 1000.0)))
    assert curves.axes.range("time") == (1, 3)


def test_only_the_runs_shown_last_are_kept() -> None:
    store = CurveStore()
    first = store.of(detail("r0", loss=[1.0]))
    assert store.of(detail("r0", loss=[1.0, 2.0])) is first
    for i in range(20):
        store.of(detail(f"r{i + 1}", loss=[1.0]))
    assert store.of(detail("r0", loss=[1.0])) is not first
