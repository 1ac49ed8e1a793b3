"""Hooks that disturb ranks, by name: they are made in processes of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from shared.checkpoints.catalogue import OPTIMIZER
from trainer.checkpoint.disk import Disk
from trainer.loop.hooks import Hooks
from trainer.loop.session import Session
from trainer.loop.training import Training

STEP = 8


def kill_writer() -> Hooks:
    """Rank 0 dies when it has written the optimizer's state of step 8, before the manifest."""

    def written(path: Path) -> None:
        if path.name == OPTIMIZER and f"step_{STEP}-" in str(path):
            os.kill(os.getpid(), signal.SIGKILL)

    return Hooks(disk=Disk(written=written))


def kill_giver() -> Hooks:
    """The last rank dies when rank 0 is about to gather its rows for the checkpoint of step 8."""
    runs: list[Path] = []

    def before_step(training: Training) -> None:
        world, path = training.session.group.world, training.writer.run.path
        runs.append(path)
        if world.rank == world.size - 1:
            (path / "pid").write_text(str(os.getpid()))

    def before_copy(session: Session) -> None:
        if session.progress.step == STEP:
            os.kill(int((runs[-1] / "pid").read_text()), signal.SIGKILL)

    return Hooks(before_step=before_step, before_copy=before_copy)


def diverge() -> Hooks:
    """The gradient is NaN at steps 6 to 8 the first time, in the rows of one rank."""
    left = [6, 7, 8]

    def after_backward(session: Session, _parts: object) -> None:
        step = session.progress.step + 1
        if step in left:
            left.remove(step)
            if session.group.world.writes:
                from trainer.sharded import here

                gradient = session.parameters["model.layers.1.mlp.up_proj.weight"].grad
                assert gradient is not None
                here(gradient)[0, 0] = float("nan")

    return Hooks(after_backward=after_backward)


def out_of_memory() -> Hooks:
    """The last rank has no memory for its second micro-batch of step 3."""
    seen = [0]

    def before_forward(purpose: str, _count: int) -> None:
        if purpose == "train" and os.environ.get("RANK") == "1":
            seen[0] += 1
            if seen[0] == 4:
                raise MemoryError("made up")

    return Hooks(before_forward=before_forward)
