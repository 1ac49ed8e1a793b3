"""Hooks of a run with rewards under test: faults strike once each.

The environment variable RL_FAULTS names a folder. A file `kill-judging` in it kills the trainer
while it judges answers, `kill-at-N` before step N, `pause-at-N` asks for a pause there, `oom-at-N`
lets the memory of step N run out. What strikes is removed first.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from shared.control.requests import submit
from tests.faults.pipelines import strikes
from tests.trainer.rl.letters import Letters
from tests.waiting import until
from trainer.loop.hooks import Hooks, Purpose
from trainer.loop.training import Training
from trainer.rewards.interface import Answer, Verdict

FAULTS = "RL_FAULTS"


class DeadlyLetters(Letters):
    """Judges letters; may not come back."""

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        if strikes(Path(os.environ[FAULTS]) / "kill-judging"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().judge(answers)


def hooks() -> Hooks:
    """For a forked trainer."""
    folder, now = Path(os.environ[FAULTS]), [0]

    def before_step(training: Training) -> None:
        now[0] = training.session.progress.step + 1
        if strikes(folder / f"kill-at-{now[0]}"):
            os.kill(os.getpid(), signal.SIGKILL)
        if strikes(folder / f"pause-at-{now[0]}"):
            submit(training.writer.run.control, "pause", {})
            until(lambda: training.writer.waiting_requests)

    def before_forward(purpose: Purpose, _sequences: int) -> None:
        if purpose == "train" and strikes(folder / f"oom-at-{now[0]}"):
            raise MemoryError("no room")

    return Hooks(language=DeadlyLetters(), before_step=before_step, before_forward=before_forward)
