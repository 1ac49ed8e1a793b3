"""The results of suites: printed, written into the checkpoint, and told to the run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from trainer.cli.models.keeping import write_into_checkpoint
from trainer.cli.output import print_table

if TYPE_CHECKING:
    from shared.checkpoints.suites import Setting, SuiteResult
    from trainer.checkpoint.opening import OpenedModel
    from trainer.evaluate.origin import Origin


@dataclass(frozen=True)
class Way:
    """How the model is opened, and where the results go besides."""

    device: str
    threads: int | None
    tokenizer: str | None
    dtype: str
    output: Path | None
    json: bool
    save: bool
    force: bool


def finish(
    opened: OpenedModel,
    origin: Origin,
    results: Sequence[SuiteResult],
    way: Way,
    *,
    partial: SuiteResult | None = None,
) -> int:
    """Print the results and keep them; those of a `partial` one are only printed."""
    shown = [*results, *([partial] if partial else [])]
    if shown:
        _tell(opened, origin, shown, way)
    if way.save and results:
        quiet = way.json or str(way.output) == "-"
        typer.echo(_keep(origin, results), err=quiet)
    return 0


def _tell(opened: OpenedModel, origin: Origin, results: Sequence[SuiteResult], way: Way) -> None:
    """Print the results, and write them to the file of --output."""
    from shared.json_text import encode_json
    from shared.output_file import write_output

    figures = {
        "model": str(origin.path),
        "name": origin.name,
        "run": origin.run.run_id if origin.run else None,
        "step": origin.step,
        "parameters": sum(weight.numel() for weight in opened.model.parameters()),
        "context": opened.context,
        "suites": [result.to_json() for result in results],
    }
    encoded = encode_json(figures, indent=True) + b"\n"
    if way.output is not None:
        write_output(way.output, [encoded], force=way.force)
    if way.json:
        sys.stdout.buffer.write(encoded)
    elif str(way.output) != "-":
        _show(origin.name, results)


def _show(name: str, results: Sequence[SuiteResult]) -> None:
    """Print a table for each suite, within 80 columns."""
    from textwrap import fill

    from shared.checkpoints.suite_figures import (
        TARGETS,
        format_figure,
        format_interval,
        in_order,
        kind_of,
    )
    from shared.text import format_duration, plural

    typer.echo(name)
    for result in results:
        asked = describe_settings(result.settings)
        head = f"{result.suite}: {plural(result.tasks, 'task')}, {plural(result.answers, 'answer')}"
        typer.echo(f"\n{head}, judged by {result.judge} in {format_duration(result.seconds)}")
        typer.echo(fill(asked, 78, initial_indent="  ", subsequent_indent="  "))
        rows = [("  ", "", "95 % interval", TARGETS)]
        rows += [
            (
                "  " + kind_of(name).label,
                format_figure(name, figure.value),
                format_interval(name, figure),
                kind_of(name).target,
            )
            for name, figure in in_order(result.figures)
        ]
        print_table(rows, numbers=(1,), drop_empty=True)
        for note in result.notes:
            typer.echo(fill(note, 78, initial_indent="  ", subsequent_indent="  "))


def _keep(origin: Origin, results: Sequence[SuiteResult]) -> str:
    """Write results into the checkpoint and the run's events; returns what was written."""
    from shared.checkpoints.evaluation_record import record_suite
    from shared.checkpoints.suites import add_suites

    told = write_into_checkpoint(origin, lambda folder: add_suites(folder, results))
    if origin.checkpoint is not None and origin.run is not None:
        for result in results:
            problem = record_suite(origin.run, origin.checkpoint.name, result)
            if problem:
                typer.echo(problem, err=True)
    return told


def describe_settings(settings: Mapping[str, Setting]) -> str:
    """The settings of a result on one line, such as `samples 16, temperature 0.8`."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
