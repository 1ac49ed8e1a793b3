"""`trainer runs import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared.text import plural
from trainer.cli import options


def import_(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="File or folder that another program has written."),
    ],
    *,
    name: Annotated[
        str | None, typer.Option(help="Name of the run; default: what the program calls it.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which run, where SOURCE holds several."),
    ] = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
) -> int:
    """Make a run of what another program has logged.

    Reads TensorBoard, W&B, trackio, MLflow, Hugging Face, Lightning, CSV and JSON Lines.
    SOURCE is not changed.
    """
    from shared.foreign.importing import import_run, run_at
    from shared.text import one_line

    imported = import_run(run_at(source, run), runs_dir, name)
    typer.echo(
        f"imported {one_line(imported.run.run_id)} from {imported.format}: "
        f"{plural(imported.records, 'record')}, {plural(imported.series, 'metric')}"
    )
    for note in (*imported.notes, *([imported.problem] if imported.problem else [])):
        typer.echo(f"note: {note}", err=True)
    return 0
