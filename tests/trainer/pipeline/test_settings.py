"""What a changed setting means for a training that is there."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.pipeline.settings import changes_of

BEFORE = {
    "name": "x",
    "optim.learning_rate": 0.1,
    "train.max_steps": 100,
    "train.max_hours": None,
    "train.batch_size": 2,
    "train.device": "cpu",
    "checkpoint.interval": 10,
}


@pytest.mark.parametrize(
    ("change", "ended", "repeats", "continues"),
    [
        ({}, True, False, {}),
        ({"optim.learning_rate": 0.2}, False, True, None),
        ({"optim.learning_rate": 0.2}, True, True, None),
        ({"train.max_steps": 200}, False, False, {"train.max_steps": 200}),
        ({"train.max_steps": 200}, True, False, {"train.max_steps": 200}),
        ({"train.max_steps": 60}, False, False, {"train.max_steps": 60}),
        ({"train.max_steps": 60}, True, True, None),
        ({"train.max_steps": 40}, False, True, None),  # it is beyond that
        ({"train.max_hours": 1.0}, False, False, {"train.max_hours": 1.0}),
        ({"train.batch_size": 1}, False, False, {"train.batch_size": 1}),
        ({"train.batch_size": 1}, True, True, None),
        ({"train.device": "cuda"}, False, False, {"train.device": "cuda"}),
        ({"train.device": "cuda", "checkpoint.interval": 5}, True, False, {}),
    ],
)
def test_a_change_continues_or_begins_anew(
    change: dict[str, Any], ended: bool, repeats: bool, continues: dict[str, Any] | None
) -> None:
    step = 100 if ended else 50
    found = changes_of(BEFORE, {**BEFORE, **change}, step=step, ended=ended)
    assert found.repeats == repeats
    if continues is not None:
        assert found.changed == continues
    assert bool(found.told) == bool(repeats or continues)


def test_an_unreadable_configuration_begins_anew() -> None:
    assert changes_of({}, BEFORE, step=1, ended=False).repeats
