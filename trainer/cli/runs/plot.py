"""`trainer runs plot`: a chart on standard output."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options
from trainer.cli.runs.place import runs_meant

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory

_WIDTH, _HEIGHT = 80, 24
_LEAST_STEPS = 20  # of a run that ends with a chart: fewer make no curve


def plot(
    runs: options.RunsArgument,
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", metavar="KEY", help="Repeatable; default: the losses."),
    ] = None,
    log: Annotated[
        bool | None,
        typer.Option("--log/--linear", help="Value axis; default: chosen by the values."),
    ] = None,
    smooth: Annotated[
        float,
        typer.Option(
            metavar="WEIGHT",
            min=0.0,
            max=0.999,
            help="Moving average over the curves: 0.9, 0.99; 0: none.",
        ),
    ] = 0.0,
    width: Annotated[
        int | None, typer.Option(min=30, max=1000, help="Columns; default: the terminal's, or 80.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=8, max=1000, help="Rows; default: 24, or the terminal's.")
    ] = None,
) -> int:
    """Plot runs as a chart of plain text.

    For logs, e-mail and machines where no full-screen program should run. On a terminal it has
    colours, unless NO_COLOR is set.
    """
    from shared.charts.plain import draw_plain
    from shared.export.picture import runs_figure

    found = runs_meant(runs, runs_dir)
    on_terminal = sys.stdout.isatty()
    if on_terminal:
        size = shutil.get_terminal_size((_WIDTH, _HEIGHT))
        width, height = width or size.columns, height or min(size.lines - 1, _HEIGHT)
    colour = on_terminal and not os.environ.get("NO_COLOR")
    figure = runs_figure(found, metric, smooth=smooth, log=log)
    typer.echo(draw_plain(figure, width or _WIDTH, height or _HEIGHT, colour=colour), color=colour)
    return 0


def show_chart(run: RunDirectory) -> None:
    """Print the main curves of a run that has ended, where no terminal has shown them."""
    from shared.charts.plain import draw_plain
    from shared.errors import UserError
    from shared.export.picture import run_figure
    from shared.run.records import RunState

    steps = (run.read_state() or RunState()).current_step
    if sys.stdout.isatty() or steps < _LEAST_STEPS:
        return
    try:
        typer.echo(draw_plain(run_figure(run), _WIDTH, _HEIGHT))
    except (UserError, OSError):
        return  # a run without such a curve, or whose files have gone: the training is not to blame
