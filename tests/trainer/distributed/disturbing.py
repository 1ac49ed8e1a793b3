"""Hooks for ranks, by name: they are made in processes of their own."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable

from trainer.loop.hooks import Hooks, Purpose
from trainer.loop.session import Session
from trainer.loop.training import Training


def _last_rank_at(step: int, act: Callable[[], object]) -> Hooks:
    """What the last rank alone does after so many steps."""

    def before_step(training: Training) -> None:
        world = training.session.group.world
        if training.session.progress.step == step and world.rank == world.size - 1:
            act()

    return Hooks(before_step=before_step)


def stop_at_5() -> Hooks:
    """A signal after 5 steps."""
    return _last_rank_at(5, lambda: os.kill(os.getpid(), signal.SIGTERM))


def stop_at_9() -> Hooks:
    """A signal after 9 steps."""
    return _last_rank_at(9, lambda: os.kill(os.getpid(), signal.SIGTERM))


def die_at_5() -> Hooks:
    """Killed after 5 steps."""
    return _last_rank_at(5, lambda: os.kill(os.getpid(), signal.SIGKILL))


def hang_at_5() -> Hooks:
    """Never comes back after 5 steps, until it is ended."""
    return _last_rank_at(5, lambda: time.sleep(3600))


def raise_at_5() -> Hooks:
    """An error that nobody expects after 5 steps."""

    def fail() -> None:
        raise ValueError("this rank has had enough")

    return _last_rank_at(5, fail)


def out_of_memory() -> Hooks:
    """The last rank cannot hold two sequences, in its 3rd step the forward pass of a second
    micro-batch, and in its 5th the end of the backward pass.
    """
    passes = [0]

    def before_forward(purpose: Purpose, count: int) -> None:
        if purpose != "train" or os.environ["RANK"] != "1":
            return
        passes[0] += 1
        if count > 1 and passes[0] == 3:
            raise MemoryError("no room for it")

    def after_backward(session: Session, _parts: object) -> None:
        if session.progress.step == 4 and session.group.world.rank == 1 and passes[0] < 100:
            passes[0] += 100
            raise MemoryError("no room for the norms")

    return Hooks(before_forward=before_forward, after_backward=after_backward)


def not_finite() -> Hooks:
    """The gradients of three steps in a row are NaN, once."""
    left = [3]

    def after_backward(session: Session, _parts: object) -> None:
        if session.progress.step >= 5 and left[0]:
            left[0] -= 1
            for parameter in session.parameters.values():
                if parameter.grad is not None:
                    parameter.grad.fill_(math.nan)

    return Hooks(after_backward=after_backward)
