"""A run that went back to a checkpoint: what the dead attempt made beyond it is not where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from monitor.chart_state import ChartState
from monitor.data.poller import Poller, read_once
from monitor.data.views import Snapshot
from monitor.dynamics import dynamics
from monitor.plots.curves import CurveStore
from monitor.plots.marks import happenings
from monitor.plots.scene import Scene
from monitor.report import report
from shared.run_writer import RunWriter


@pytest.fixture
def resumed(tmp_path: Path) -> Iterator[RunWriter]:
    """Attempt 1 came to step 89 at a loss of 1, attempt 2 is at step 67 of a loss of 4."""
    first = RunWriter(tmp_path, name="twice", max_steps=1000)
    for step in range(1, 90):
        first.log(step, loss=1.0, gradient_norm=100.0)
    first.finish("failed", 1)
    with RunWriter(run=first.run, current_step=50) as writer:
        for step in range(51, 68):
            writer.log(step, loss=4.0, gradient_norm=2.0)
        yield writer


def look(writer: RunWriter) -> Snapshot:
    return Poller(writer.run.path.parent).look(lambda runs: runs[0].run_id)


def test_it_is_where_the_newest_attempt_is(resumed: RunWriter) -> None:
    seen = look(resumed)
    assert (seen.runs[0].step, seen.runs[0].loss) == (67, 4.0)
    told = report(read_once(resumed.run.path.parent, resumed.run))["runs"][0]
    assert (told["step"], told["loss"]) == (67, 4.0)


def test_what_the_old_attempt_made_is_kept_and_marked(resumed: RunWriter) -> None:
    detail = look(resumed).detail
    assert detail is not None
    assert detail.loss.steps[-1] == 67
    assert detail.abandoned["loss"].steps[-1] == 89
    assert detail.given_up_after == 67
    here = [h for h in happenings(detail) if h.kind == "here"]
    assert [h.step for h in here] == [67]
    assert [h.step for h in happenings(detail) if h.kind == "started"] == [50]


def test_lately_is_what_the_newest_attempt_did(resumed: RunWriter) -> None:
    detail = look(resumed).detail
    assert detail is not None
    lately = dynamics(detail)
    assert lately.last_step == 67
    assert lately.gradient_norm == 2.0
    assert lately.mean == pytest.approx(np.mean([1.0] * 33 + [4.0] * 17))


def test_once_it_has_come_as_far_again_nothing_is_left_of_it(resumed: RunWriter) -> None:
    for step in range(68, 92):
        resumed.log(step, loss=4.0)
    detail = look(resumed).detail
    assert detail is not None
    assert detail.given_up_after is None
    assert not [h for h in happenings(detail) if h.kind == "here"]


def test_before_its_first_step_the_old_attempt_says_nothing(tmp_path: Path) -> None:
    first = RunWriter(tmp_path, name="twice", max_steps=1000)
    for step in range(1, 90):
        first.log(step, loss=1.0)
    first.finish("failed", 1)
    with RunWriter(run=first.run, current_step=50) as writer:
        assert look(writer).runs[0].step == 50


def test_a_run_says_nothing_of_where_it_never_was(tmp_path: Path) -> None:
    for name, steps in (("short", 120), ("long", 300)):
        with RunWriter(tmp_path, name=name) as writer:
            for step in range(1, steps + 1):
                writer.log(step, loss=float(steps))
    snapshot = Poller(tmp_path)
    seen = snapshot.look(lambda runs: runs[0].run_id)
    snapshot.follow(frozenset(run.run_id for run in seen.runs))
    details = snapshot.look(lambda runs: runs[0].run_id).details
    shown = [(run, details[run.run_id]) for run in seen.runs]

    def values(crosshair: float) -> dict[str, float | None]:
        scene = Scene(shown, ChartState(crosshair=crosshair), CurveStore())
        return {r.label.partition("_")[0]: r.value for r in scene.readings("loss")}

    assert values(100) == {"short": 120.0, "long": 300.0}
    assert values(273) == {"short": None, "long": 300.0}
