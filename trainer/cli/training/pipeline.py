"""`trainer pipeline`: prepare, train, evaluate, export and serve as one resumable unit."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli import options

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory
    from trainer.pipeline.start import Started

#: The guide's variables, and the keys that they set.
_KEYS = {
    "batch_size": "supervised.train.batch_size",
    "target_steps": "supervised.train.max_steps",
    "rl_iterations": "rl.rl.iterations",
    "device": "device",
}


def pipeline(
    *,
    config: Annotated[
        Path,
        typer.Option(metavar="FILE.yaml", help="The pipeline; see configs/production.yaml."),
    ],
    name: Annotated[
        str | None,
        typer.Option(help="Name of the pipeline, its folders and runs; default: the file's."),
    ] = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    batch_size: options.BatchSize = None,
    target_steps: Annotated[
        int | None,
        typer.Option("--target-steps", "--max-steps", help="Steps of supervised training."),
    ] = None,
    checkpoint_interval: options.CheckpointInterval = None,
    rl_iterations: Annotated[int | None, typer.Option(help="Iterations of RL.")] = None,
    device: options.Device = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set any key of the file."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Run in the background; output goes to the log.")
    ] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="Let a daemon start it when there is room.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan with sizes and hours; start nothing."),
    ] = False,
    context: typer.Context,
) -> int:
    """Prepare, train, evaluate, export and serve a model as one resumable unit.

    Started again, it continues: a stage whose outputs are whole is kept, and a changed setting or
    input repeats the stages that depend on it.

    Ctrl-C stops cleanly: the stage saves, and the exit code is 75.
    """
    from trainer.cli.training.start import check_mode
    from trainer.pipeline.config import assignments_of, load
    from trainer.pipeline.stages.registry import sections

    check_mode(detach=detach, queue=queue)
    given = {"batch_size": batch_size, "target_steps": target_steps, "device": device}
    given["rl_iterations"] = rl_iterations
    known = sections()
    flags: dict[str, Any] = {_KEYS[key]: value for key, value in given.items() if value is not None}
    if name is not None:
        flags["name"] = name
    if checkpoint_interval is not None:
        flags["supervised.checkpoint.interval"] = checkpoint_interval
    flags |= assignments_of(set_ or [])
    loaded = load(config, known, flags)
    if dry_run:
        return _show_plan(loaded, runs_dir)
    return _start(loaded, runs_dir, detach=detach, queue=queue, hooks=context.obj)


def find_pipeline(reference: str, runs_dir: Path) -> RunDirectory | None:
    """The run of a pipeline that `reference` names; None for anything else."""
    from shared.errors import UserError
    from shared.run.finding import find_run
    from trainer.pipeline.records import is_pipeline

    try:
        run = find_run(runs_dir, reference)
    except UserError:
        return None
    return run if is_pipeline(run) else None


def resume_pipeline(
    run: RunDirectory,
    given: Sequence[str],
    *,
    detach: bool,
    queue: bool,
    supervised: bool,
    hooks: object,
) -> int:
    """`trainer resume` of a pipeline's run, which keeps its settings."""
    from shared.errors import UserError
    from shared.text import one_line
    from trainer.pipeline.start import config_of, resume

    if given:
        raise UserError(
            f"{one_line(run.run_id)} is a pipeline, whose settings ({', '.join(given[:3])}) are "
            "those of its stages; change them with trainer pipeline --config FILE --set KEY=VALUE."
        )
    if detach or queue:
        config, place = config_of(run)
        return _start(config, place.runs_dir, detach=detach, queue=queue, hooks=hooks)
    return resume(run, supervised=supervised, hooks=_hooks(hooks))


def _start(config: Any, runs_dir: Path, *, detach: bool, queue: bool, hooks: object) -> int:
    from trainer.pipeline.start import start

    mode = "detached" if detach else "queued" if queue else "here"
    started = start(config, runs_dir, mode, _hooks(hooks))  # type: ignore[arg-type]
    if isinstance(started, int):
        return started
    _show_started(started)
    return 0


def _hooks(hooks: object) -> Any:
    from trainer.pipeline.runner import Hooks

    return hooks if isinstance(hooks, Hooks) else None


def _show_started(started: Started) -> None:
    from shared.text import one_line
    from trainer.cli.training.start import show_daemon

    run = started.run
    path = shlex.quote(one_line(run.path))
    if started.pid is None:
        typer.echo(f"{one_line(run.run_id)} is queued")
        show_daemon(started.daemon, run.path.parent)
        typer.echo(f"take it out: trainer stop {path}")
        return
    typer.echo(f"{one_line(run.run_id)} is {started.status} (process {started.pid})")
    typer.echo(f"watch: train-monitor --runs-dir {shlex.quote(one_line(run.path.parent))}")
    typer.echo(f"stop:  trainer stop {path}")


def _show_plan(config: Any, runs_dir: Path) -> int:
    from shared.text import many_lines
    from trainer.pipeline.estimate import estimate

    for line in estimate(config, runs_dir, tell=lambda doing: typer.echo(doing, err=True)):
        typer.echo(many_lines(line))
    return 0
