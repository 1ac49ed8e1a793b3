"""Arguments and options that several commands share, and the settings they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

RunsDirOption = Annotated[
    Path, typer.Option("--runs-dir", metavar="DIR", help="Where the run directories are.")
]
RUNS_DIR = Path("runs")
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run id, name, path, or latest.")]
RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN…", help="Run ids, names, paths, or latest.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

MaxSteps = Annotated[int | None, typer.Option(help="Optimizer steps in all.")]
MaxHours = Annotated[
    float | None, typer.Option(help="End after so many hours of training, whole and saved.")
]
DEVICE = typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute.")
Device = Annotated[str | None, DEVICE]
Threads = Annotated[int | None, typer.Option(help="CPU threads; default all cores.")]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate.")]
BatchSize = Annotated[int | None, typer.Option(help="Sequences per micro-batch.")]
Accumulation = Annotated[int | None, typer.Option(help="Micro-batches per optimizer step.")]
LogInterval = Annotated[int | None, typer.Option(help="Steps between lines on the console.")]
EvalInterval = Annotated[int | None, typer.Option(help="Steps between evaluations.")]
CheckpointInterval = Annotated[int | None, typer.Option(help="Steps between checkpoints.")]
KeepLast = Annotated[int | None, typer.Option(help="How many of the newest checkpoints stay.")]
SaveTopK = Annotated[
    int | None, typer.Option(help="How many of the best by validation loss stay besides.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any other key of the configuration."),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Train in the background; the console goes to train.log.")
]
Queue = Annotated[bool, typer.Option("--queue", help="Let a daemon start it when there is room.")]
MicroBatch = Annotated[
    str | None,
    typer.Option(metavar="N|auto", help="Sequences at once, fewer than a batch; auto: what fits."),
]


def given(settings: dict[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """The settings a person gave: flags that are not None, then `--set` assignments over them."""
    from trainer.config.resolve import parse_assignment

    chosen = {key: value for key, value in settings.items() if value is not None}
    for assignment in assignments or []:
        key, value = parse_assignment(assignment)
        chosen[key] = value
    return chosen


def check_range(option: str, value: float | None, least: float, most: float) -> None:
    """Raise UserError when the value of an option is given and outside its range."""
    from shared.errors import UserError

    if value is not None and not least <= value <= most:
        raise UserError(f"{option} is {value}; it must be between {least} and {most}.")


def check_threads(threads: int | None) -> None:
    """Raise UserError for a number of CPU threads that cannot be."""
    from trainer.config.schema import MAX_THREADS

    check_range("--threads", threads, 1, MAX_THREADS)
