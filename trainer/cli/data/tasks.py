"""`trainer tasks`: programming tasks, made and compared with texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shared.text import one_line, plural
from trainer.cli.help import command_group
from trainer.cli.output import print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.tasks.generator.making import TaskSet

app = command_group("Make programming tasks, and look for them in training text.")


@app.callback()
def tasks() -> None:
    """Make programming tasks, and look for them in training text."""


@app.command()
def make(
    *,
    output: Annotated[
        str, typer.Option(metavar="DIR", help="Folder for train.jsonl and held-out.jsonl.")
    ],
    language: Annotated[str, typer.Option(metavar="NAME", help="Language of the tasks.")] = "rust",
    count: Annotated[int, typer.Option(metavar="N", help="Tasks of each split.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed: the same one makes the same tasks.")] = 0,
    split: Annotated[
        str,
        typer.Option(
            metavar="train|held-out|both",
            help="Tasks of the templates to train on, of those held out, or of both.",
        ),
    ] = "both",
    text: Annotated[
        bool,
        typer.Option(
            "--text",
            help="Also write text.jsonl: the training tasks with their solutions, for "
            "prepare-data --text.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
) -> None:
    """Make small programming tasks with hidden tests, from templates and a seed.

    No template is in both splits, and no held-out task has the solution of a training template, but
    for names and numbers.
    """
    from shared.errors import UserError
    from trainer.tasks.generator.making import SPLITS
    from trainer.tasks.making_files import TaskFiles, make_files

    if split not in (*SPLITS, "both"):
        raise UserError(f"--split {one_line(split, 60)} is not train, held-out or both.")
    if text and split == "held-out":
        raise UserError("--text writes training tasks, and --split held-out makes none.")
    files = TaskFiles(output, text=text, force=force)
    splits = SPLITS if split == "both" else tuple(s for s in SPLITS if s == split)
    made = make_files(files, language, splits, count, seed)
    _tell(made)
    for path, size in files.written.items():
        typer.echo(f"{one_line(path)}: {size}")


def _tell(made: Sequence[TaskSet]) -> None:
    rows = [("split", "family", "templates", "tasks")]
    for part in made:
        families: dict[str, list[int]] = {}
        for template, number in part.counts.items():
            families.setdefault(template.partition("/")[0], []).append(number)
        rows += [
            (part.split, family, f"{len(numbers):,}", f"{sum(numbers):,}")
            for family, numbers in sorted(families.items())
        ]
    print_table(rows, numbers=(2, 3))
    for part in made:
        left_out = part.left_out.total()
        if left_out:
            typer.echo(
                f"note: {plural(left_out, part.split + ' task')} left out, with the solution of a "
                "training task",
                err=True,
            )
