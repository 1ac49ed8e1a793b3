"""Other x axes: of the run itself, of the time in which it trained, of any metric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.chart_state import ChartState
from monitor.data.views import RunDetail
from monitor.plots.curves import CurveStore, RunCurves
from monitor.plots.elapsed import Trained
from monitor.plots.scene import Scene
from shared.run.metrics_rows import Series
from tests.monitor.support import series, view


def curves(halts: tuple[float, ...] = (), **found: object) -> RunCurves:
    given_series = {
        key: one if isinstance(one, Series) else series(key, one) for key, one in found.items()
    }
    nothing = series("loss", [])
    made = RunCurves()
    made.update(RunDetail("r", nothing, nothing, series=given_series, halts=halts))
    return made


def test_relative_steps_begin_at_the_first_one() -> None:
    late = Series("loss", np.array([500, 510, 530]), np.ones(3))
    found = curves(loss=late)
    placed = found.axes.of(late, "relative")
    assert placed is not None
    assert placed.x.tolist() == [0, 10, 30]
    assert found.axes.range("relative") == (0, 30)
    assert found.axes.is_worthwhile("relative")
    assert found.axes.convert([510], "step", "relative") == [10]
    assert found.axes.convert([10], "relative", "step") == [510]
    assert not curves(loss=np.ones(9)).axes.is_worthwhile("relative")


def test_time_without_pauses() -> None:
    clock = series("time", [0.0, 1.0, 2.0, 5002.0, 5003.0, 5013.0, 5014.0])
    assert Trained().update(clock, ()).values.tolist() == [0, 1, 2, 3, 4, 14, 15]
    told = Trained().update(clock, (5010.0,)).values
    assert told.tolist() == [0, 1, 2, 5002, 5003, 5004, 5005], "events tell, and a long step is one"
    found = curves(loss=np.ones(7), time=clock, halts=(0.5, 2500.0))
    assert found.axes.range("training") == (0, 15)
    assert found.axes.is_worthwhile("training")
    assert not curves(loss=np.ones(3), time=[0.0, 1.0, 2.0]).axes.is_worthwhile("training")
    slow = curves(loss=np.ones(3), step_time_ms=[1000.0] * 3)
    assert slow.axes.range("training") == slow.axes.range("time")


def test_of_a_growing_run_only_the_new_part_is_computed() -> None:
    moments = np.cumsum(np.where(np.arange(4000) % 500, 1.0, 5000.0))
    halts = tuple(float(x) - 1 for x in moments[::500])
    trained, before = Trained(), np.empty(0)
    for end in (3000, 3001, 3700, 4000):
        known = tuple(halt for halt in halts if halt < moments[end - 1])
        found = trained.update(series("time", moments[:end]), known).values
        assert (
            found.tolist() == Trained().update(series("time", moments[:end]), known).values.tolist()
        )
        assert end <= 3001 or np.shares_memory(before, found), "it was continued"
        before = found
    late = trained.update(series("time", moments), (*halts, 1700.5)).values
    assert (
        late.tolist() == Trained().update(series("time", moments), (*halts, 1700.5)).values.tolist()
    )


@given(
    st.lists(st.floats() | st.floats(0, 1e9), max_size=20),
    st.lists(st.floats(-1e9, 1e9), max_size=4),
)
def test_time_without_pauses_never_falls(moments: list[float], halts: list[float]) -> None:
    found = Trained().update(series("time", moments), halts).values
    assert len(found) == len(moments)
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()


def test_a_metric_that_rises_is_an_axis_like_any_other() -> None:
    found = curves(loss=[3.0, 2.0, 1.0], epoch=[0.0, 0.5, 2.0])
    assert found.axes.range("metric", "epoch") == (0, 2)
    assert found.axes.rises("metric", "epoch")
    assert found.axes.convert([1], "step", "metric", "epoch") == [0.5]
    assert found.axes.convert([0.5], "metric", "step", "epoch") == [1]
    assert not found.axes.has("metric", "gone")
    assert not curves(loss=[1.0], bad=[np.nan]).axes.has("metric", "bad")


def test_over_a_metric_that_goes_back_and_forth_values_are_sorted_by_it() -> None:
    found = curves(loss=[5.0, 4.0, 3.0, 2.0], lr=[0.1, 0.3, np.nan, 0.2])
    curve = found.curve("loss", "loss", "train", kind="metric", metric="lr")
    assert curve is not None
    assert curve.places.tolist() == [0.1, 0.2, 0.25, 0.3]
    assert curve.points.series.values.tolist() == [5, 2, 3, 4]
    assert not found.axes.rises("metric", "lr")


values = st.floats(-1e6, 1e6) | st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e300, 5e-324])


@given(
    st.lists(values, min_size=1, max_size=30),
    st.lists(values, min_size=1, max_size=30),
    st.booleans(),
    st.integers(1, 60),
)
def test_any_metric_can_be_an_axis(x: list[float], y: list[float], log: bool, columns: int) -> None:
    """No value is lost, none is outside, and labels, ticks and zoom hold."""
    detail = RunDetail(
        "r", series("loss", []), series("val_loss", []),
        series={"loss": series("loss", y), "x": series("x", x)},
    )  # fmt: skip
    state = ChartState(axis="metric", x_metric="x", log_x=log)
    scene = Scene([(view("r"), detail)], state, CurveStore())
    figure = scene.figure("loss")
    window = figure.window
    (curve,) = figure.curves
    edges = window.edges(columns)
    assert (np.diff(edges) >= 0).all()
    assert len(curve.points) == len(y)
    if scene.axis == "metric":
        assert (np.diff(curve.places) >= 0).all()
        assert sorted(map(str, curve.points.series.values)) == sorted(map(str, map(float, y)))
        bounds = curve.find(edges)
        assert (bounds[0], bounds[-1]) == (0, len(y)), "none is outside"
    for tick in window.ticks(columns):
        assert window.label(tick)
        assert window.first <= tick <= window.last
    assert window.exact(window.last)
    if scene.limits is not None:
        zoomed = scene.state.zoomed(0.5, window.last, scene.limits).window(scene.limits)
        assert scene.limits[0] <= zoomed.first <= zoomed.last <= scene.limits[1]


def test_from_axis_to_axis_the_same_part_is_kept_where_there_is_one() -> None:
    detail = RunDetail(
        "r", series("loss", []), series("val_loss", []),
        series={
            "loss": series("loss", np.ones(100)),
            "epoch": series("epoch", np.arange(100) / 10),
            "lr": series("lr", np.sin(np.arange(100.0))),
        },
    )  # fmt: skip

    def scene(state: ChartState) -> Scene:
        return Scene([(view("r"), detail)], state, CurveStore())

    state = ChartState(crosshair=40.0, span=20.0, end=50.0)
    over = scene(state).on_axis("metric", "epoch")
    assert over.crosshair == pytest.approx(4.0)
    assert (over.span, over.end) == (pytest.approx(2.0), pytest.approx(5.0))
    assert scene(over).on_axis("step").crosshair == pytest.approx(40.0)
    lost = scene(state).on_axis("metric", "lr")
    assert (lost.crosshair, lost.span) == (None, None)
    assert scene(lost).timeline.rises is False


def test_the_axis_is_named_where_it_is_not_steps() -> None:
    detail = RunDetail(
        "r", series("loss", []), series("val_loss", []),
        series={"loss": series("loss", np.ones(9)), "lr": series("lr", np.arange(9.0))},
    )  # fmt: skip
    state = ChartState(axis="metric", x_metric="lr", log_x=True)
    plot = Scene([(view("r"), detail)], state, CurveStore()).plot("loss")
    assert " over lr (log) " in [text for text, _ in plot.remarks]
    assert plot.figure.window.name == "lr"
