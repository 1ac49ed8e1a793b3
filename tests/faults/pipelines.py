"""Hooks of a pipeline under test: its children are forks, and faults strike once each.

The environment variable FAULTS names a folder. A file `kill-STAGE-MOMENT` in it kills the pipeline
there, `die-COMMAND` a command as it begins, `die-at-N` a trainer before step N, `orphan-at-N` the
pipeline while its trainer is at step N, `oom-at-N` lets the memory of a step run out. What strikes
is removed first, so it strikes once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.faults.fork_server import ALARM
from trainer.loop.hooks import Hooks as TrainingHooks
from trainer.loop.training import Training
from trainer.pipeline.children import Child
from trainer.pipeline.runner import Hooks
from trainer.pipeline.tethered import tie_to

FAULTS = "PIPELINE_FAULTS"


class Forked:
    """A forked `trainer`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


def hooks() -> Hooks:
    folder = Path(os.environ[FAULTS])

    def at(stage: str, moment: str) -> None:
        if strikes(folder / f"kill-{stage}-{moment}"):
            os.kill(os.getpid(), signal.SIGKILL)

    return Hooks(
        launch=lambda arguments, output, tied: fork(folder, arguments, output, tied), at=at
    )


def strikes(fault: Path) -> bool:
    """Whether the fault is to strike, which it does once."""
    try:
        fault.unlink()
    except FileNotFoundError:
        return False
    return True


def fork(folder: Path, arguments: Sequence[str], output: Path, tied: bool) -> Child:
    parent, pid = os.getpid(), os.fork()
    if pid:
        return Forked(pid)
    try:
        os.setsid()
        signal.alarm(ALARM)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if tied:
            tie_to(parent)
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        if strikes(folder / f"die-{arguments[0]}"):
            os.kill(os.getpid(), signal.SIGKILL)
        from trainer.cli.main import main

        os._exit(main(list(arguments), faults_of_training(folder, parent)))  # type: ignore[arg-type]
    finally:
        os._exit(99)


def faults_of_training(folder: Path, pipeline: int) -> TrainingHooks:
    now = [0]

    def before_step(training: Training) -> None:
        now[0] = training.session.progress.step + 1
        if strikes(folder / f"orphan-at-{now[0]}"):
            os.kill(pipeline, signal.SIGKILL)
        if strikes(folder / f"die-at-{now[0]}"):
            os.kill(os.getpid(), signal.SIGKILL)

    def before_forward(purpose: str, _sequences: int) -> None:
        if purpose == "train" and strikes(folder / f"oom-at-{now[0]}"):
            raise MemoryError

    return TrainingHooks(before_step=before_step, before_forward=before_forward)
