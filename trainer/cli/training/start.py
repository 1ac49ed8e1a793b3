"""Starting what `train` and `resume` ask for, and saying where it trains."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from shared.errors import ExitCode, UserError
from shared.text import many_lines, one_line

if TYPE_CHECKING:
    from shared.control.daemons import DaemonView
    from trainer.launch.detached import Detached
    from trainer.launch.launch import Mode
    from trainer.launch.queued import Queued
    from trainer.launch.rank_process import RankProcess
    from trainer.launch.ranks import Nodes
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
    nodes: Nodes | None = None,
) -> int:
    """Train here, in the background, or through a daemon; returns the exit code.

    Where several processes are to train, torchrun starts them, unless this is one of them.
    """
    check_mode(detach=detach, queue=queue)
    from trainer.cli.hub.upload import send
    from trainer.cli.runs.plot import show_chart
    from trainer.distributed.world import world_of
    from trainer.launch.detached import Detached
    from trainer.launch.launch import launch
    from trainer.launch.rank_process import rank_process
    from trainer.launch.ranks import ONE_NODE, train_with_ranks, wants_ranks

    world, nodes = world_of(os.environ), nodes or ONE_NODE
    nodes.check()
    if (detach or queue) and (not world.alone or nodes.count > 1):
        raise UserError(
            f"{'--detach' if detach else '--queue'} is for the ranks of one machine, which trainer "
            "starts itself (--nproc-per-node); leave it out."
        )
    if not (detach or queue) and world.alone and wants_ranks(request.config, nodes):
        return train_with_ranks(request, runs_dir, sys.argv[1:], nodes=nodes, supervised=supervised)
    rank = rank_process(world, os.environ)
    if not world.alone:
        train = partial(launch, request, runs_dir, supervised=supervised, send=send, rank=rank)
        end_rank(rank, train, hooks)
    mode: Mode = "detached" if detach else "queued" if queue else "here"
    launched = launch(
        request,
        runs_dir,
        mode,
        supervised=supervised,
        send=send,
        hooks=hooks,
        completed=(lambda _: None) if supervised else show_chart,  # its console is the run's log
    )
    if isinstance(launched, int):
        return launched
    if isinstance(launched, Detached):
        _show_detached(launched)
    else:
        _show_queued(launched)
    return ExitCode.OK


def end_rank(rank: RankProcess, train: Callable[..., Any], hooks: Hooks | None) -> NoReturn:
    """Train as one of several ranks, and end this process with the exit code for torchrun.

    At once: what torch would take down in order may wait for ranks that are gone.
    """
    rank.begin()
    try:
        code = int(train(hooks=hooks))
    except UserError as error:
        code = int(error.exit_code)
        if rank.world.local_rank == 0:  # the others of this machine have found the same
            print(f"trainer: {many_lines(error)}", file=sys.stderr)
    except BaseException:
        code = ExitCode.FAILURE
        traceback.print_exc()
    code = rank.end(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def check_may_prepare(option: str, given: Sequence[str] | None, nnodes: int = 1) -> None:
    """Raise UserError where several processes would prepare the same data at the same time."""
    if given and (nnodes > 1 or os.environ.get("WORLD_SIZE", "1") != "1"):
        raise UserError(
            f"{option} {one_line(given[0], 60)} would be prepared by every rank at the same time; "
            "prepare it first (trainer prepare-data, then --data-path), or let the trainer start "
            "the ranks of one machine (--nproc-per-node)."
        )


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
