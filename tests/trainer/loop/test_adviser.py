"""Advice while a run trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.run.record_lines import read_records
from shared.run_writer import RunWriter
from trainer.checkpoint.progress import Progress
from trainer.loop.adviser import MOST, Adviser
from trainer.loop.step import StepResult


def test_a_plateau_is_told_once_however_long_the_run_is(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 3 * MOST)
    with RunWriter(tmp_path, name="flat") as writer:
        adviser = Adviser(writer)
        for step, rest in enumerate(noise, start=1):
            position = Progress(step=step).position
            adviser.take(StepResult(3.0 + rest, 1.0, 1e-3, 0.1, position), 1000.0)
            if step % MOST == 0:
                adviser.look(step, 3.1)
        told = [e for e in read_records(writer.run.events_path) if e["event"] == "advice"]
    assert [event["rule"] for event in told] == ["plateau"]
    assert "stands still" in told[0]["message"]
