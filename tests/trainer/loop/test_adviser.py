"""Advice while a run trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.run.record_lines import read_records
from shared.run_writer import RunWriter
from trainer.checkpoint.progress import Progress
from trainer.loop.adviser import MOST, Adviser
from trainer.loop.step import StepResult


def told_of(writer: RunWriter) -> list[str]:
    return [e["rule"] for e in read_records(writer.run.events_path) if e["event"] == "advice"]


@pytest.mark.parametrize("forgets", [False, True])
def test_a_larger_model_is_not_a_slow_machine(tmp_path: Path, forgets: bool) -> None:
    with RunWriter(tmp_path, name="grown") as writer:
        adviser = Adviser(writer)
        for step in range(1, 601):
            if step == 401 and forgets:
                adviser.forget()
            position = Progress(step=step).position
            loss = 3.0 + 1 / step + 0.1 * (step % 7)
            speed = 1000.0 if step <= 400 else 300.0
            adviser.take(StepResult(loss, 1.0, 1e-3, 0.1, position, True, "", {}), speed)
        adviser.look(600, 3.1)
        assert ("slower" in told_of(writer)) != forgets


def test_steps_that_were_rolled_back_are_forgotten(tmp_path: Path) -> None:
    with RunWriter(tmp_path, name="back") as writer:
        adviser = Adviser(writer)
        for attempt, last in enumerate((1000, 800)):
            for step in range(1 + 400 * attempt, last + 1):
                loss = 4.0 - step / 400 if step <= 400 or not attempt else 2.9 - step / 1000
                position = Progress(step=step).position
                adviser.take(StepResult(loss, 1.0, 1e-3, 0.1, position, True, "", {}), 1000.0)
        adviser.look(800, 2.5)
        assert told_of(writer) == []


def test_a_plateau_is_told_once_however_long_the_run_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 3 * MOST)
    with RunWriter(tmp_path, name="flat") as writer:
        adviser = Adviser(writer)
        for step, rest in enumerate(noise, start=1):
            position = Progress(step=step).position
            adviser.take(StepResult(3.0 + rest, 1.0, 1e-3, 0.1, position, True, "", {}), 1000.0)
            if step % MOST == 0:
                adviser.look(step, 3.1)
        told = [e for e in read_records(writer.run.events_path) if e["event"] == "advice"]
    assert [event["rule"] for event in told] == ["plateau"]
    assert "stands still" in told[0]["message"]
