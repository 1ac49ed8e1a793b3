"""`trainer daemon`: supervise the runs of a folder on this host."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import RunError, UserError
from shared.text import format_duration, format_time, many_lines, one_line, plural
from trainer.cli import options
from trainer.cli.help import command_group
from trainer.cli.output import print_json

if TYPE_CHECKING:
    from shared.control.daemons import DaemonView

START_TIMEOUT = 30.0  # seconds until a daemon in the background must hold its lock
STOP_TIMEOUT = 30.0  # seconds until a daemon has ended
DRAIN_TIMEOUT = 600.0  # seconds until a daemon and its runs have ended
_LOOK = 0.05

app = command_group(
    "Watch a runs folder: start queued runs, restart crashed ones, answer requests.",
    invoke_without_command=True,
)

MaxRuns = Annotated[
    int | None, typer.Option(min=1, help="Runs at the same time; default: one per GPU, or one.")
]
PerGpu = Annotated[int, typer.Option(min=1, help="Runs at the same time on each GPU.")]
MaxRestarts = Annotated[
    int, typer.Option(min=0, help="Restarts per hour without a new checkpoint.")
]
Alerts = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Alert settings; default: see trainer alerts test."),
]
#: For subcommands: None means the option given before the subcommand.
SubRunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", metavar="DIR", help="Folder that holds the runs; default: runs."),
]


@app.callback()
def daemon(
    context: typer.Context,
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    max_runs: MaxRuns = None,
    per_gpu: PerGpu = 1,
    max_restarts: MaxRestarts = 5,
    alerts: Alerts = None,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background.")] = False,
    console: Annotated[bool, typer.Option("--console/--no-console", hidden=True)] = True,
) -> int:
    """Watch a runs folder: start queued runs, restart crashed ones, answer requests.

    Stops on Ctrl-C, SIGTERM or trainer daemon stop. Its runs continue, and the next daemon adopts
    them.
    """
    context.obj = runs_dir
    if context.invoked_subcommand is not None:
        return 0
    from trainer.daemon.daemon import Daemon, DaemonSettings

    settings = DaemonSettings(runs_dir, max_runs, per_gpu, max_restarts, alerts, console)
    if detach:
        return _detach(runs_dir, _options(max_runs, per_gpu, max_restarts, alerts))
    return Daemon(settings).run()


def _options(
    max_runs: int | None, per_gpu: int, max_restarts: int, alerts: Path | None
) -> list[str]:
    """The options for another process."""
    given = ["--per-gpu", str(per_gpu), "--max-restarts", str(max_restarts)]
    if max_runs is not None:
        given += ["--max-runs", str(max_runs)]
    if alerts is not None:
        given += ["--alerts", str(alerts.resolve())]
    return given


def _command(runs_dir: Path, given: list[str]) -> list[str]:
    place = str(runs_dir.resolve())
    return [sys.executable, "-m", "trainer", "daemon", "--runs-dir", place, *given]


def _detach(runs_dir: Path, given: list[str]) -> int:
    """Start a daemon in its own session and wait until it is running."""
    from shared.control.daemons import view_daemon
    from shared.control.waiting import Patience, wait_for
    from trainer.daemon.daemon import open_folder, take_lock

    directory = open_folder(runs_dir)
    take_lock(directory, runs_dir).release()  # a running daemon is reported immediately
    errors = directory.path / "daemon.err"
    with errors.open("wb") as file:
        process = subprocess.Popen(
            [*_command(runs_dir, given), "--no-console"],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )

    def at_work() -> DaemonView | None:
        view = view_daemon(directory)
        if view.alive and view.pid == process.pid and directory.state_path.exists():
            return view
        if process.poll() is not None:
            said = many_lines(errors.read_text(errors="replace")).strip()
            said = said.removeprefix("trainer: ")
            if process.returncode == UserError.exit_code:
                raise UserError(said)
            raise RunError(f"The daemon ended immediately (exit code {process.returncode}): {said}")
        return None

    view = wait_for(at_work, Patience(timeout=START_TIMEOUT, look=_LOOK))
    if view is None:
        raise RunError(f"The daemon is not running after {START_TIMEOUT:.0f} s; see {errors}.")
    typer.echo(f"{describe_daemon(view)}, watching {one_line(runs_dir)}")
    typer.echo(f"log:  {one_line(directory.log_path)}")
    typer.echo(f"stop: trainer daemon --runs-dir {shlex.quote(one_line(runs_dir))} stop")
    return 0


def describe_daemon(view: DaemonView) -> str:
    """`daemon on HOST, process 12, since 2026-01-02 03:04:05`."""
    since = format_time(view.since)
    return f"daemon on {one_line(view.host)}, process {view.pid}, since {since}"


@app.command()
def stop(
    context: typer.Context,
    runs_dir: SubRunsDir = None,
    runs: Annotated[
        bool,
        typer.Option("--runs", help="Stop its runs too; the next daemon resumes them."),
    ] = False,
    host: Annotated[
        str | None, typer.Option(help="Host of the daemon; default: this host.")
    ] = None,
) -> int:
    """Stop the daemon; its runs continue unless --runs is given."""
    from shared.control.daemons import find_daemons, is_watching
    from shared.control.requests import submit
    from shared.control.waiting import Patience, wait_for
    from shared.ownership.process import host_name

    place = runs_dir or context.obj
    living = [view for view in find_daemons(place) if view.alive]
    view = next((v for v in living if v.host == (host or host_name())), None)
    if view is None:
        others = ", ".join(one_line(v.host) for v in living)
        hint = f"; there is one on {others}: name it with --host" if living else ""
        raise UserError(
            f"No daemon of {one_line(host or 'this host')} watches {one_line(place)}{hint}."
        )
    try:
        submit(view.directory.control, "stop", {"runs": runs})
    except OSError as error:
        raise RunError(
            f"Cannot leave a request in {view.directory.control}: {error.strerror}; "
            f"send SIGTERM to process {view.pid}."
        ) from error
    timeout = DRAIN_TIMEOUT if runs else STOP_TIMEOUT
    ended = wait_for(lambda: not is_watching(view.directory), Patience(timeout=timeout, look=_LOOK))
    if not ended:
        waited = format_duration(timeout)
        raise RunError(f"The {describe_daemon(view)} has not ended within {waited}.")
    left = len(view.runs)
    if left and not runs:
        kept = plural(left, "run")
        typer.echo(f"the daemon has ended; {kept} left running, for the next daemon to adopt")
    else:
        typer.echo("the daemon has ended")
    return 0


@app.command()
def status(
    context: typer.Context,
    runs_dir: SubRunsDir = None,
    json: options.Json = False,
) -> int:
    """Show the daemons of a runs folder and the runs each supervises."""
    from shared.control.daemons import find_daemons

    place = runs_dir or context.obj
    if not place.is_dir():
        raise UserError(
            f"{one_line(place)} is not a folder; name the one that holds your runs with --runs-dir."
        )
    views = find_daemons(place)
    if json:
        print_json([_record(view) for view in views])
        return 0
    living = [view for view in views if view.alive]
    for view in living:
        _print_daemon(view)
    if not living:
        typer.echo(f"no daemon watches {one_line(place)}; start one with trainer daemon")
    return 0 if living else 1


def _record(view: DaemonView) -> dict[str, Any]:
    """A daemon as JSON."""
    return {
        "host": view.host,
        "alive": view.alive,
        "pid": view.pid,
        "since": view.since,
        "alerts": view.alerts,
        "limits": view.limits,
        "gpus": list(view.gpus),
        "runs": view.runs,
        "queue": list(view.queue),
        "log": str(view.directory.log_path),
    }


def _print_daemon(view: DaemonView) -> None:
    limits = view.limits
    typer.echo(describe_daemon(view))
    typer.echo(
        f"  at most {limits.get('max_runs', '?')} runs at once, {limits.get('per_gpu', '?')} on a "
        f"GPU, {limits.get('max_restarts', '?')} restarts; "
        f"{len(view.gpus) or 'no'} GPU{'s' if len(view.gpus) > 1 else ''}; "
        f"alerts {'on' if view.alerts else 'off'}"
    )
    for run_id, care in view.runs.items():
        gpu = f", GPU {care['gpu']}" if care.get("gpu") is not None else ""
        worker = f", process {care['pid']}" if care.get("pid") else ""
        reason = f": {care['reason']}" if care.get("reason") else ""
        line = f"  {run_id}: {care.get('status')}{worker}{gpu}{reason}"
        typer.echo(one_line(line, 200))
    for run_id in view.queue:
        typer.echo(f"  {one_line(run_id)}: queued")
    typer.echo(f"  log: {one_line(view.directory.log_path)}")


@app.command("install-service")
def install_service(
    context: typer.Context,
    *,
    runs_dir: SubRunsDir = None,
    max_runs: MaxRuns = None,
    per_gpu: PerGpu = 1,
    max_restarts: MaxRestarts = 5,
    alerts: Alerts = None,
) -> int:
    """Print a systemd user unit that keeps the daemon running.

    Nothing is installed.
    """
    from trainer.daemon.service import service_unit

    place: Path = (runs_dir or context.obj).resolve()
    given = _options(max_runs, per_gpu, max_restarts, alerts)
    typer.echo(service_unit(_command(place, given), place), nl=False)
    return 0
