"""Hooks for ranks, by name: they are made in processes of their own."""

from __future__ import annotations

import os
import signal

from trainer.loop.hooks import Hooks
from trainer.loop.training import Training


def _stop_at(step: int) -> Hooks:
    """The last rank alone gets a signal after so many steps."""

    def before_step(training: Training) -> None:
        world = training.session.group.world
        if training.session.progress.step == step and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    return Hooks(before_step=before_step)


def stop_at_5() -> Hooks:
    """Stop after 5 steps."""
    return _stop_at(5)


def stop_at_9() -> Hooks:
    """Stop after 9 steps."""
    return _stop_at(9)
