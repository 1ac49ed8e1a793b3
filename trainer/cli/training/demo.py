"""`trainer demo`: train a small character model on Python's own source and watch it."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli import options
from trainer.cli.output import show_progress
from trainer.launch.fitting import Fit, Size, fit, measure_step

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory
    from trainer.config.schema import Config

PRESET = "minigpt-small"
#: Largest first. Each learns Python's words and indentation in its least number of steps.
SIZES = (
    Size("minigpt-small", steps=1500, least=800),
    Size(
        "minigpt-tiny",
        steps=1500,
        least=700,
        changes={
            "model.hidden_size": 96,
            "model.intermediate_size": 384,
            "model.num_layers": 3,
            "train.batch_size": 8,
        },
    ),
    Size(
        "minigpt-nano",
        steps=1500,
        least=0,
        changes={
            "model.hidden_size": 64,
            "model.intermediate_size": 256,
            "model.num_layers": 2,
            "train.batch_size": 8,
            "train.seq_len": 96,
        },
    ),
)
SECONDS = 225.0  # from the first line to the last, as planned
LIMIT = 270.0  # then training stops, however far it has come
START_AND_END = 25.0  # of them to load torch, to save and to show the result
EVALUATIONS = 6
POLL = 1.0  # seconds between looks at the run
REPORT_EVERY = 10.0  # seconds between progress lines


def demo(
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    max_steps: Annotated[
        int | None, typer.Option(help="Optimizer steps in total; default: what four minutes allow.")
    ] = None,
    watch: Annotated[
        bool | None,
        typer.Option(
            "--watch/--no-watch", help="Open train-monitor on the run; default: on a terminal."
        ),
    ] = None,
) -> int:
    """Train a small model on Python's own source code and watch it learn.

    The first steps are timed, and the model and the number of steps are chosen so that the demo
    ends within five minutes. Closing the monitor does not stop the training.
    """
    if watch is None:
        watch = sys.stdin.isatty() and sys.stdout.isatty()
    return run_demo(runs_dir, standard_library(), max_steps=max_steps, watch=watch)


def run_demo(
    runs_dir: Path,
    text: list[str],
    *,
    max_steps: int | None = None,
    watch: bool = False,
    measure: Callable[[Config], float] = measure_step,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Train on the files `text`; `max_steps` of the largest size, or what fits into the time.

    `measure` returns the seconds that one step of a configuration takes.
    """
    from shared.control.launch import resume_detached, wait_until_running
    from trainer.config.resolve import resolve
    from trainer.launch.create import create
    from trainer.launch.raw_text import prepare_text
    from trainer.launch.request import load_layers, new_run

    began = clock()
    settings, _, _ = load_layers(PRESET)
    # One thread: a second one gains little here, and on a busy machine they wait for each other.
    flags: dict[str, Any] = {"name": "demo", "train.threads": 1}
    steps = {} if max_steps is None else {"train.max_steps": max_steps}
    resolve(settings, flags, steps)  # a wrong number is refused before any work
    typer.echo("Reading the Python standard library's source…")
    flags["data.path"] = str(prepare_text(text, [settings, flags], runs_dir, show_progress))

    def configured(more: dict[str, Any]) -> Config:
        return new_run(settings, {}, {**flags, **more}, preset=False)

    if max_steps is None:
        typer.echo("Timing the first steps…")
        left = SECONDS - START_AND_END - (clock() - began)
        fitted = fit(SIZES, left, lambda size: measure(configured(dict(size.changes))))
        latest = LIMIT - START_AND_END - (clock() - began)
        config = configured(chosen(fitted, latest))
        typer.echo(
            f"{config.train.max_steps} steps of {fitted.size.name}: one takes "
            f"{1000 * fitted.step_seconds:.0f} ms here"
        )
    else:
        config = configured(steps)
    run = create(config, runs_dir)
    process = resume_detached(run)
    typer.echo(f"Starting {run.run_id}…")
    wait_until_running(run, process)
    if watch:
        command = [sys.executable, "-m", "monitor", "--runs-dir", str(runs_dir)]
        command += ["--run", run.run_id]
        code = subprocess.run(command, check=False).returncode
        typer.echo(f"sample of {run.run_id}: trainer generate --checkpoint {_quoted(run.path)}")
        return code
    return _follow(run, process)


def chosen(fitted: Fit, seconds: float) -> dict[str, Any]:
    """The settings of a fitted run, which stops when its steps have taken `seconds`."""
    every = max(1, fitted.steps // EVALUATIONS)
    return {
        **fitted.size.changes,
        "model.name": fitted.size.name,
        "train.max_steps": every * EVALUATIONS,  # so that the last sample is of the last step
        "train.max_hours": max(1.0, seconds) / 3600,
        "optim.warmup_steps": min(50, fitted.steps // 10),
        "eval.interval": every,
        "eval.batches": 8,
        "checkpoint.interval": max(every, fitted.steps // 2),
    }


def standard_library() -> list[str]:
    """The source files at the top level of the standard library."""
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
    from trainer.cli.runs.plot import show_chart

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
    show_chart(run)
    samples = sorted(run.samples.glob("step_*.txt"), key=lambda p: int(p.stem.split("_")[1]))
    if samples:
        text = samples[-1].read_text(encoding="utf-8", errors="replace")
        step = samples[-1].stem.removeprefix("step_")
        typer.echo(f"\nA sample after {step} steps:\n\n{many_lines(text)}")
    typer.echo(f"\nlook at it:    train-monitor --runs-dir {_quoted(run.path.parent)}")
    typer.echo(f"more samples:  trainer generate --checkpoint {_quoted(run.path)} --prompt 'def '")
    return 0


def _quoted(path: Path) -> str:
    """The path as a word of a command to copy."""
    from shared.text import one_line

    return shlex.quote(one_line(path))
