"""Starting what `train` and `resume` ask for, and saying where it trains."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from shared.errors import ExitCode, UserError
from shared.text import one_line

if TYPE_CHECKING:
    from shared.control.daemons import DaemonView
    from trainer.launch.detached import Detached
    from trainer.launch.launch import Mode
    from trainer.launch.queued import Queued
    from trainer.launch.request import LaunchRequest
    from trainer.loop.hooks import Hooks


def start(
    request: LaunchRequest,
    runs_dir: Path,
    *,
    detach: bool = False,
    queue: bool = False,
    supervised: bool = False,
    hooks: Hooks | None = None,
) -> int:
    """Train here, in the background, or through a daemon; returns the exit code."""
    check_mode(detach=detach, queue=queue)
    from trainer.cli.hub.upload import send
    from trainer.distributed.world import world_of
    from trainer.launch.detached import Detached
    from trainer.launch.launch import launch

    mode: Mode = "detached" if detach else "queued" if queue else "here"
    launched = launch(
        request,
        runs_dir,
        mode,
        supervised=supervised,
        send=send,
        hooks=hooks,
        world=world_of(os.environ),
    )
    if isinstance(launched, int):
        return launched
    if isinstance(launched, Detached):
        _show_detached(launched)
    else:
        _show_queued(launched)
    return ExitCode.OK


def check_mode(*, detach: bool, queue: bool) -> None:
    """Raise UserError when both are given."""
    if detach and queue:
        raise UserError(
            "--detach and --queue are both given; start it now, or leave it to a daemon."
        )


def _show_detached(launched: Detached) -> None:
    run = launched.run
    typer.echo(f"{one_line(run.run_id)} is {launched.status} (process {launched.pid})")
    typer.echo(f"watch: train-monitor --runs-dir {shlex.quote(one_line(run.path.parent))}")
    typer.echo(f"stop:  trainer stop {shlex.quote(one_line(run.path))}")


def _show_queued(queued: Queued) -> None:
    run = queued.run
    typer.echo(
        f"{one_line(run.run_id)} is queued" + (f", behind {queued.behind}" if queued.behind else "")
    )
    show_daemon(queued.daemon, run.path.parent)
    typer.echo(f"take it out: trainer stop {shlex.quote(one_line(run.path))}")


def show_daemon(daemon: DaemonView | None, runs_dir: Path) -> None:
    """Say which daemon starts queued runs, or how to start one."""
    if daemon is not None:
        typer.echo(f"started by: {_describe(daemon)}, when there is room")
        return
    place = one_line(runs_dir)
    typer.echo(f"no daemon watches {place}; start one with:")
    typer.echo(f"  trainer daemon --runs-dir {shlex.quote(place)} --detach")


def _describe(daemon: DaemonView) -> str:
    """`the daemon on this host (process 12)`."""
    from shared.ownership.process import host_name

    host = "this host" if daemon.host == host_name() else one_line(daemon.host)
    return f"the daemon on {host} (process {daemon.pid})"
