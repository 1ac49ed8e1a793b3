"""Runs from the outside: status, and the requests a trainer answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.text import one_line
from trainer.cli import options

if TYPE_CHECKING:
    from shared.run_directory import RunDirectory

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run id, name, path, or latest.")]
ANSWER_TIMEOUT = 120.0  # seconds: the step in progress has to end, and perhaps a save


def _ask(reference: str, runs_dir: Path, action: str) -> int:
    """Leave a request and wait for its answer."""
    from shared.control import submit
    from shared.errors import RunError, UserError
    from shared.health import observe
    from shared.metrics_log import read_records
    from shared.records import RunState
    from shared.run_directory import find_run

    run = find_run(runs_dir, reference)
    health = observe(run, run.read_state() or RunState())
    if not health.alive:
        raise UserError(f"Run {run.run_id} is {health.status}: no process to {action} it.")
    try:
        request = submit(run.control, action)
    except OSError as error:
        raise RunError(f"Cannot leave a request in {run.control}: {error.strerror}.") from error
    deadline = time.monotonic() + ANSWER_TIMEOUT
    while time.monotonic() < deadline:
        for event in read_records(run.events_path, limit=200):
            if event.get("event") == "answer" and event.get("request") == request:
                if not event.get("ok"):
                    raise RunError(f"{run.run_id}: {event.get('message')}.")
                typer.echo(f"{one_line(run.run_id)}: {one_line(event.get('message'))}")
                if action == "stop":
                    _wait_for_end(run, deadline)
                return 0
        time.sleep(0.1)
    raise RunError(
        f"Run {run.run_id} has not answered within {ANSWER_TIMEOUT:.0f} s; the request stays."
    )


def _wait_for_end(run: RunDirectory, deadline: float) -> None:
    """Until the trainer has saved and gone, so that the next command finds the run free."""
    from shared.health import observe
    from shared.records import RunState

    while time.monotonic() < deadline:
        state = run.read_state() or RunState()
        if not observe(run, state).alive:
            typer.echo(f"{one_line(run.run_id)}: {state.status}")
            return
        time.sleep(0.1)


def stop(run: RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Ask a run to finish its step, save and end."""
    return _ask(run, runs_dir, "stop")


def pause(run: RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Ask a run to wait after its step."""
    return _ask(run, runs_dir, "pause")


def continue_(run: RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Ask a paused run to go on."""
    return _ask(run, runs_dir, "resume")


def checkpoint(run: RunArgument, runs_dir: options.RunsDirOption = options.RUNS_DIR) -> int:
    """Ask a run to save a checkpoint now."""
    return _ask(run, runs_dir, "checkpoint")


def status(
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> int:
    """List the runs with what each is really doing."""
    import orjson

    from shared.errors import UserError
    from shared.health import observe
    from shared.records import RunState, split_nonfinite
    from shared.run_directory import discover_runs
    from shared.text import format_duration

    try:
        runs = discover_runs(runs_dir)
    except OSError as error:
        raise UserError(
            f"Cannot read {runs_dir}: {error.strerror}; name your runs folder with --runs-dir."
        ) from error
    rows = []
    for run in runs:
        state = run.read_state() or RunState(run_id=run.run_id)
        health = observe(run, state)
        rows.append((run, state, health))
    if json:
        records = [
            split_nonfinite(
                {
                    "run_id": run.run_id,
                    "status": health.status,
                    "reason": health.reason,
                    "step": state.current_step,
                    "max_steps": state.max_steps,
                    "loss": state.current_loss,
                    "best_loss": state.best_loss,
                    "eta_seconds": state.eta_seconds if health.alive else None,
                }
            )
            for run, state, health in rows
        ]
        typer.echo(orjson.dumps(records, option=orjson.OPT_INDENT_2).decode())
        return 0
    if not rows:
        typer.echo(f"{runs_dir} holds no runs yet; start one with trainer train.")
    for run, state, health in rows:
        loss = "-" if state.current_loss is None else f"{state.current_loss:.4f}"
        steps = f"{state.current_step}/{state.max_steps or '?'}"
        eta = format_duration(state.eta_seconds) if health.alive else "-"
        typer.echo(
            f"{one_line(run.run_id, 60):<44} {health.status:<12} {steps:>15}  loss {loss:>8}  "
            f"ETA {eta:>7}  {one_line(health.reason, 80)}".rstrip()
        )
    return 0
