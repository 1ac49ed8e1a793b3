"""What happened to a run, as signs; its phases, as colours."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor import palette
from monitor.chart.picture import Picture
from monitor.data.views import EventView, RunDetail
from monitor.plots.marks import happenings
from shared.charts.colours import LIGHT
from shared.charts.marks import SIGNS, in_drawing_order
from shared.charts.phases import phase_inks, phases
from shared.checkpoints.catalogue import CheckpointInfo
from shared.run.records import PhaseTransition
from tests.monitor.support import NOW, series


def detail(*events: EventView, checkpoints: tuple[CheckpointInfo, ...] = ()) -> RunDetail:
    nothing = series("loss", [])
    return RunDetail("r", nothing, nothing, events=events, checkpoints=checkpoints)


def checkpoint(step: int, *, best: bool = False) -> CheckpointInfo:
    return CheckpointInfo(Path(f"step_{step}"), step, 1 << 20, NOW, True, 1.0, 1.0, is_best=best)


def test_events_and_checkpoints_become_signs_once() -> None:
    found = happenings(
        detail(
            EventView(NOW, 0, "started", "attempt 1"),
            EventView(NOW, 200, "checkpoint saved", "step_200"),
            EventView(NOW, 250, "started", "attempt 2, was crashed"),
            EventView(NOW, 260, "sample", "once upon"),
            EventView(None, None, "spike", "no step"),
            checkpoints=(checkpoint(100), checkpoint(200, best=True)),
        )
    )
    assert [(h.step, h.kind) for h in found] == [
        (100, "checkpoint_saved"),
        (200, "checkpoint_saved"),
        (200, "new_best"),
        (250, "started"),
    ]
    assert found[0].text == "step_100, 1.0 MiB"
    assert found[1].text == "step_200"


def test_a_best_that_was_beaten_is_no_mark() -> None:
    events = [EventView(NOW, step, "new best", "val_loss") for step in (50, 100, 150)]
    saved = checkpoint(100, best=True)
    found = happenings(detail(*events, checkpoints=(saved,)))
    assert [(h.step, h.kind) for h in found] == [(100, "checkpoint_saved"), (150, "new_best")]


def test_what_matters_most_lies_on_top() -> None:
    events = [EventView(NOW, 5, k, "") for k in ("rolled back", "checkpoint saved", "spike")]
    ordered = in_drawing_order(happenings(detail(*events)))
    assert [h.kind for h in ordered] == ["checkpoint_saved", "spike", "rolled_back"]


@pytest.mark.parametrize("kind", SIGNS)
def test_every_sign_is_one_cell_and_has_a_colour(kind: str) -> None:
    sign = SIGNS[kind]
    picture = Picture(3, 1)
    from monitor.chart.picture import Ink, cell_count

    assert cell_count(sign.sign) == 1
    assert sign.ascii.isascii()
    assert len(sign.ascii) == 1
    picture.write(0, 0, sign.sign, Ink(sign.ink))
    assert sign.ink in palette.NIGHT.words
    assert sign.ink in LIGHT


def test_phases_have_the_colours_they_have_elsewhere() -> None:
    names = ["warmup", "sft", "full", "rl", "sft", "grow", "a", "b", "c"]
    transitions = tuple(PhaseTransition(i, "", n, NOW) for i, n in enumerate(names))
    found = phases(transitions[::-1])
    assert [p.start for p in found] == list(range(9))
    assert found[1].ink == found[4].ink == phase_inks(names[::-1])["sft"]


def test_names_of_phases_are_safe() -> None:
    transitions = (PhaseTransition(0, "", "x\x1b]0;boom\x07", NOW),)
    (found,) = phases(transitions)
    assert "\x1b" not in found.name
