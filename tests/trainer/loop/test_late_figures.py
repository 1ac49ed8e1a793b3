"""Reading the figures of a step while the next one is computed changes nothing that a run does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from shared.control.requests import submit
from tests.faults.test_divergence import in_data, leap, poison
from tests.trainer.loop.conftest import Train, Trained, resume
from tests.trainer.loop.test_exact_resume import stop_at
from tests.waiting import until
from trainer.loop.figures import Part
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.session import Session
from trainer.loop.training import Training


def both(*hooks: Hooks) -> Callable[[Session, Sequence[Part]], None]:
    """Several disturbances of the same steps."""

    def after_backward(session: Session, parts: Sequence[Part]) -> None:
        for one in hooks:
            one.after_backward(session, parts)

    return after_backward


#: The setting of each, what happens in the run, and its exit code.
RUNS: dict[str, tuple[dict[str, object], Hooks, int]] = {
    "accumulating with dropout": (
        {"train__accumulation_steps": 2, "model__dropout": 0.1, "eval__interval": 5},
        NO_HOOKS,
        0,
    ),
    "two bad steps": ({}, poison(in_data(5 * 4, 7 * 4)), 0),
    "back to a checkpoint": (
        {"train__max_steps": 24, "checkpoint__interval": 8, "eval__interval": 24},
        poison(in_data(10 * 4, 13 * 4), math.inf),
        0,
    ),
    "back to the start": ({"eval__interval": 12}, poison(in_data(0, 3 * 4)), 0),
    "bad before a validation": ({}, poison(in_data(5 * 4, 8 * 4)), 0),
    "diverged": ({}, poison(lambda session: session.progress.step >= 5), 1),
    "a last step that is bad": ({}, poison(in_data(11 * 4, 12 * 4)), 1),
    "stopped between validations": ({}, stop_at(6), 75),
    "stopped after a bad step": (
        {"stability__nonfinite_steps": 1, "eval__interval": 12},
        Hooks(after_backward=both(poison(in_data(5 * 4, 6 * 4)), stop_at(6))),
        75,
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_same(train: Train, name: str) -> None:
    changes, hooks, code = RUNS[name]
    # Saved in the loop, so that events have an order.
    settings = {**changes, "checkpoint__background": False}
    at_once = train("once", hooks=replace(hooks, late=False), **settings)
    late = train("late", hooks=replace(hooks, late=True), **settings)
    assert (at_once.code, late.code) == (code, code)
    assert told(late) == told(at_once)
    assert records(late) == records(at_once)
    assert saved(late) == saved(at_once)
    if code == 75:
        assert resume(late.run, hooks=replace(NO_HOOKS, late=True)).code == 0
        assert resume(at_once.run, hooks=replace(NO_HOOKS, late=False)).code == 0
        assert records(late) == records(at_once)
        assert saved(late) == saved(at_once)


def test_a_request_finds_every_step_recorded(train: Train) -> None:
    """A checkpoint is of the last step, and a pause begins when that is recorded."""
    counted: list[int] = []

    def before_step(training: Training) -> None:
        if training.session.progress.step == 5:
            for action in ("checkpoint", "pause", "resume"):
                submit(training.writer.run.control, action)
            until(lambda: training.writer.waiting_requests == 3)
        if training.session.progress.step == 6:
            counted.append(len(training.writer.run.metrics_path.read_text().splitlines()))

    settings = {"eval__interval": 12, "checkpoint__interval": 12, "checkpoint__background": False}
    at_once, late = (
        train("asked", hooks=Hooks(before_step=before_step, late=late), **settings)
        for late in (False, True)
    )
    assert counted == [6, 6]
    assert {"step_6", "step_12"} <= saved(late).keys()
    assert told(late) == told(at_once)
    assert saved(late) == saved(at_once)


def test_a_spike_is_skipped_on_what_is_known(train: Train) -> None:
    """It is compared with all losses before it, so its run cannot read late."""
    at = 26
    settings = {"train__max_steps": 28, "stability__skip_spikes": True, "eval__interval": 28}
    at_once, late = (
        train(
            "spike",
            hooks=replace(leap(at, 3.0), late=late),
            checkpoint__background=False,
            **settings,
        )
        for late in (False, True)
    )
    assert told(late) == told(at_once)
    assert [e["step"] for e in late.events if e["event"] == "spike"] == [at]
    assert saved(late) == saved(at_once)


def records(done: Trained) -> dict[str, tuple[list[int], list[str]]]:
    """Everything that was recorded but times, as text: NaN is not equal to itself."""
    found = {}
    for key in ("loss", "gradient_norm", "learning_rate", "val_loss", "tokens_total"):
        series = done.metrics.series(key)
        found[key] = (series.steps.tolist(), [repr(value) for value in series.values])
    return found


def told(done: Trained) -> list[dict[str, Any]]:
    """The events in their order, but for names, times and sizes."""
    left_out = {
        "time",
        "request",
        "request_id",
        "pid",
        "seconds",
        "bytes",
        "message",
        "reason",
        "run_id",
        "attempt",
    }
    return [
        {key: value for key, value in event.items() if key not in left_out} for event in done.events
    ]


def saved(done: Trained) -> dict[str, tuple[str, str]]:
    """The content of every checkpoint."""
    folders = done.run.checkpoints.iterdir()
    return {f.name: done.hashes(f.name) for f in folders if not f.is_symlink()}
