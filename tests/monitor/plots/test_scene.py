"""Which charts there are, and what each shows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from monitor.chart_state import ChartState
from monitor.data.views import EventView, RunDetail, RunView
from monitor.plots.curves import CurveStore
from monitor.plots.scene import MAX_RUNS, Scene
from shared.run.records import PhaseTransition
from tests.monitor.support import NOW, series, view

Run = tuple[RunView, RunDetail]


def run(run_id: str = "a", steps: int = 100, keys: tuple[str, ...] = (), **more: Any) -> Run:
    """A run of some steps with `loss`, `val_loss` at every tenth step, and these metrics."""
    found = {
        "loss": series("loss", np.linspace(9, 1, steps)),
        **{key: series(key, np.arange(steps)) for key in keys},
        "val_loss": series("val_loss", np.linspace(9, 1, steps // 10), 10),
    }
    fields = more.pop("view", {})
    detail = RunDetail(run_id, found["loss"], found["val_loss"], series=found, **more)
    return view(run_id, **fields), detail


def scene(*runs: Run, state: ChartState | None = None, **more: Any) -> Scene:
    return Scene(runs, state or ChartState(), CurveStore(), **more)


def test_losses_share_the_first_chart_and_others_keep_their_order() -> None:
    found = scene(run(keys=("zeta", "alpha")))
    assert found.keys == ["loss", "zeta", "alpha"]
    assert [c.label for c in found.plot("loss").figure.curves] == ["loss", "val"]
    assert [c.ink for c in found.plot("loss").figure.curves] == ["train", "val"]
    assert found.key == "loss"
    assert scene(run(keys=("zeta",)), state=ChartState(cursor="zeta")).key == "zeta"
    assert scene(run(), state=ChartState(cursor="gone")).key == "loss"


def test_overlaid_runs_have_a_chart_for_every_metric_of_any() -> None:
    found = scene(run("a", keys=("x",)), run("b", keys=("y",)))
    assert found.keys == ["loss", "val_loss", "x", "y"]
    curves = found.plot("loss").figure.curves
    assert [c.label for c in curves] == ["a", "b"]
    assert len({c.ink for c in curves}) == 2
    # A run has the same colour on every chart, whoever else is on it.
    assert [c.ink for c in found.plot("y").figure.curves] == [curves[1].ink]
    assert found.plot("loss").title == "loss"


def test_without_colours_curves_have_letters() -> None:
    found = scene(run("a", keys=("x",)), run("b", keys=("y",)), plain=True)
    assert [c.label for c in found.plot("loss").figure.curves] == ["A a", "B b"]
    assert [c.label for c in found.plot("loss", named=False).figure.curves] == ["A", "B"]
    assert [r.letter for r in found.readings("loss")] == ["A", "B"]
    assert [r.label for r in found.readings("loss")] == ["a", "b"]
    assert "".join(text for text, _ in found.legend()) == " A a  B b "


def test_so_many_runs_and_no_more() -> None:
    found = scene(*(run(f"r{i}") for i in range(MAX_RUNS + 3)))
    assert len(found.plot("loss").figure.curves) == MAX_RUNS


def test_the_axis_spans_all_runs() -> None:
    found = scene(run("a", 100), run("b", 400))
    assert (found.window.first, found.window.last) == (0, 399)


def test_an_axis_these_runs_lack_falls_back_to_steps() -> None:
    state = ChartState(axis="tokens", crosshair=1e6, span=5.0)
    found = scene(run(), state=state)
    assert found.axes == ("step",)
    assert found.plot("loss").figure.window.kind == "step"
    assert found.state.crosshair is None
    mixed = scene(run("a"), run("b", keys=("tokens_total",)), state=state)
    assert mixed.axes == ("step", "tokens")
    assert [c.label for c in mixed.plot("loss").figure.curves] == ["b"]
    assert mixed.plot("loss").note == "1 without tokens"


def test_the_next_axis_keeps_what_is_looked_at() -> None:
    state = ChartState(crosshair=40.0, span=20.0, end=50.0)
    one = run(keys=("tokens_total",))
    series_of = {**one[1].series, "tokens_total": series("tokens_total", np.arange(100) * 512.0)}
    one = (one[0], dataclasses.replace(one[1], series=series_of))
    moved = scene(one, state=state).next_axis()
    assert (moved.axis, moved.crosshair) == ("tokens", 40 * 512)
    window = scene(one, state=moved).window
    assert (window.first, window.last) == (30 * 512, 50 * 512)


def test_curves_too_short_for_an_average_are_drawn_as_they_are() -> None:
    found = scene(run(steps=1000), state=ChartState(weight=0.99)).plot("loss")
    loss, val = found.figure.curves
    assert loss.smooth is not None
    assert len(loss.smooth) == 1000
    assert val.smooth is None
    assert any("ema 0.99" in text for text, _ in found.remarks)
    assert not any("ema" in text for text, _ in scene(run()).plot("loss").remarks)


def test_an_approximate_curve_says_so() -> None:
    assert scene(run(approximate=True, loading=0.31)).plot("loss").note == (
        "≈ approximate, reading 31%"
    )
    assert scene(run()).plot("loss").note == ""


def test_phases_of_one_run_or_of_all_alike() -> None:
    transitions = (PhaseTransition(0, "", "warmup", NOW), PhaseTransition(50, "", "full", NOW))
    other = (PhaseTransition(0, "", "sft", NOW),)
    one = run("a", view={"transitions": transitions})
    same, different = (
        run("b", view={"transitions": transitions}),
        run("c", view={"transitions": other}),
    )
    assert [(b.start, b.ink) for b in scene(one).plot("loss").figure.bands] == [
        (0, "phase-warmup"),
        (50, "phase-full"),
    ]
    assert len(scene(one, same).plot("loss").figure.bands) == 2
    assert scene(one, different).plot("loss").figure.bands == []


def test_marks_lie_where_the_axis_has_the_step() -> None:
    one = run(keys=("tokens_total",), events=(EventView(NOW, 40, "spike", "loss 7"),))
    for axis, x in (("step", 40.0), ("tokens", 40.0)):
        (mark,) = scene(one, state=ChartState(axis=axis)).plot("loss").figure.marks  # type: ignore[arg-type]
        assert mark.x == x


def test_readings_are_those_at_the_crosshair() -> None:
    found = scene(run(steps=101), state=ChartState(crosshair=50.0))
    (loss, val) = found.readings("loss")
    assert loss.value == pytest.approx(5.0)
    assert (loss.low, loss.high) == (1, 9)
    assert val.value == pytest.approx(np.linspace(9, 1, 10)[5])
    assert scene(run(), state=ChartState(crosshair=-1.0)).readings("loss")[0].value is None


def test_from_mark_to_mark() -> None:
    events = tuple(EventView(NOW, s, "spike", "") for s in (10, 20, 30))
    timeline = scene(run(events=events)).timeline
    assert timeline.next_happening(1, None) == 10
    assert timeline.next_happening(-1, None) == 30
    assert timeline.next_happening(1, 10) == 20
    assert timeline.next_happening(-1, 25) == 20
    assert timeline.next_happening(1, 30) is None
    assert scene(run()).timeline.next_happening(1, None) is None


def test_a_chart_is_drawn_again_when_it_would_look_different() -> None:
    one = run()
    same = scene(one).signature("loss")
    assert scene(one).signature("loss") == same
    moved = scene(one, state=ChartState(cursor="x"))
    assert moved.signature("loss") == same  # where the cursor is, is told elsewhere
    newer = (one[0], dataclasses.replace(one[1], version=9))
    for other in (
        scene(newer),
        scene(one, state=ChartState(weight=0.5)),
        scene(one, plain=True),
        scene((dataclasses.replace(one[0], best_loss=1.0), one[1])),
    ):
        assert other.signature("loss") != same


def test_nothing_at_all() -> None:
    found = scene()
    assert (found.keys, found.key, found.limits) == ([], "", None)
    assert found.plot("loss").figure.curves == []
    assert found.next_axis() == found.state
