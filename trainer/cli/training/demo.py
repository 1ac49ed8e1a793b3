"""`trainer demo`: train a small character model on Python's own source and watch it."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options
from trainer.cli.output import show_progress

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory

PRESET = "minigpt-small"
POLL = 1.0  # seconds between looks at the run
REPORT_EVERY = 10.0  # seconds between progress lines


def demo(
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    max_steps: options.MaxSteps = None,
    watch: Annotated[
        bool | None, typer.Option("--watch/--no-watch", help="Open train-monitor on it.")
    ] = None,
) -> int:
    """Train a small character-level model on the Python standard library, and watch it learn.

    Training goes on in the background when the monitor is closed.
    """
    from shared.control.launch import resume_detached, wait_until_running
    from trainer.launch.create import create
    from trainer.launch.raw_text import prepare_text
    from trainer.launch.request import load_layers, new_run

    settings, _, _ = load_layers(PRESET)
    # One thread: on a busy machine two wait for each other, and the second gains little here.
    flags = options.given({"name": "demo", "train.max_steps": max_steps, "train.threads": 1}, None)
    typer.echo("Reading the Python standard library's source…")
    text = standard_library()
    flags["data.path"] = str(prepare_text(text, {**settings, **flags}, runs_dir, show_progress))
    config = new_run(settings, {}, flags, preset=False)
    run = create(config, runs_dir)
    process = resume_detached(run)
    typer.echo(f"Starting {run.run_id}…")
    wait_until_running(run, process)
    if watch is None:
        watch = sys.stdin.isatty() and sys.stdout.isatty()
    if watch:
        command = [sys.executable, "-m", "monitor", "--runs-dir", str(runs_dir)]
        command += ["--run", run.run_id]
        code = subprocess.run(command, check=False).returncode
        typer.echo(f"sample of {run.run_id}: trainer generate --checkpoint {run.path}")
        return code
    return _follow(run, process)


def standard_library() -> list[str]:
    """The source files of the standard library's top level, which every Python has."""
    import sysconfig
    from pathlib import Path

    folder = Path(sysconfig.get_path("stdlib"))
    return [str(path) for path in sorted(folder.glob("*.py"))]


def _follow(run: RunDirectory, process: subprocess.Popen[bytes]) -> int:
    """Print progress until the run ends, then the loss before and after and a sample."""
    from shared.errors import RunError
    from shared.run.log import last_log_line
    from shared.run.metrics_log import MetricsReader
    from shared.run.records import ENDED_STATUSES, RunState
    from shared.text import format_duration, many_lines

    next_report = 0.0
    while process.poll() is None:
        state = run.read_state() or RunState()
        if time.monotonic() >= next_report and state.current_loss is not None:
            typer.echo(
                f"step {state.current_step}/{state.max_steps}  loss {state.current_loss:.3f}  "
                f"ETA {format_duration(state.eta_seconds)}"
            )
            next_report = time.monotonic() + REPORT_EVERY
        time.sleep(POLL)
    state = run.read_state() or RunState()
    if state.status not in ENDED_STATUSES or process.returncode:
        raise RunError(f"{run.run_id} ended badly: {last_log_line(run)}")
    table = MetricsReader(run.metrics_path).read_all()
    loss, val = table.series("loss").values, table.series("val_loss").values
    typer.echo(f"\nloss before {loss[0]:.3f}, after {loss[-1]:.3f}; validation {val[-1]:.3f}")
    samples = sorted(run.samples.glob("step_*.txt"), key=lambda p: int(p.stem.split("_")[1]))
    if samples:
        text = samples[-1].read_text(encoding="utf-8", errors="replace")
        typer.echo(f"\nA sample after {state.current_step} steps:\n\n{many_lines(text)}")
    typer.echo(f"\nlook at it:    train-monitor --runs-dir {run.path.parent}")
    typer.echo(f"more samples:  trainer generate --checkpoint {run.path} --prompt 'def '")
    return 0
