"""Start a requested training here, in the background, or through a daemon."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainer.alerts.settings import load_settings
from trainer.launch.detached import Detached, launch_detached
from trainer.launch.here import train_here
from trainer.launch.publish import Send, send_quietly
from trainer.launch.queued import Queued, launch_queued
from trainer.launch.rank_process import ALONE, RankProcess
from trainer.launch.request import LaunchRequest

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory
    from trainer.loop.hooks import Hooks

Mode = Literal["here", "detached", "queued"]


def launch(
    request: LaunchRequest,
    runs_dir: Path,
    mode: Mode = "here",
    *,
    supervised: bool = False,
    send: Send = send_quietly,
    hooks: Hooks | None = None,
    rank: RankProcess = ALONE,
    completed: Callable[[RunDirectory], None] = lambda _: None,
) -> int | Detached | Queued:
    """Train `here` and return the exit code, or start it `detached`, or leave it `queued`.

    `supervised`: a daemon may start this process again. `send` uploads a completed run, where its
    configuration asks for that. `hooks` watch a training in this process. `rank`: it is one of
    several that train together. `completed` is called with a run that has reached its end here.

    Raises UserError or RunError when the run cannot start.
    """
    if not supervised:
        load_settings()  # wrong alert settings are reported before a run exists
    if mode == "queued":
        return launch_queued(request, runs_dir)
    if mode == "detached":
        return launch_detached(request, runs_dir)
    return train_here(
        request,
        runs_dir,
        supervised=supervised,
        send=send,
        hooks=hooks,
        rank=rank,
        completed=completed,
    )
