"""`trainer tasks`: programming tasks, made and compared with texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shared.text import one_line, plural
from trainer.cli.help import command_group
from trainer.cli.output import print_json, print_table, shorten, show_progress
from trainer.cli.several_values import SeveralValues

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.tasks.decontamination import Contamination
    from trainer.tasks.generator.making import TaskSet

_EXAMPLES = 3  # tasks that are shown of an evaluation

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
                f"note: {plural(left_out, part.split + ' task')} left out: too much like one to "
                "train on",
                err=True,
            )


@app.command(cls=SeveralValues)
def check(
    *,
    against: Annotated[
        list[str],
        typer.Option(metavar="TASKS", help="Files of tasks to look for; several may follow."),
    ],
    text: Annotated[
        list[str],
        typer.Option(
            metavar="PATHS",
            help="Text, .jsonl, .parquet files, folders or quoted globs; several may follow.",
        ),
    ],
    text_field: Annotated[
        str, typer.Option(help="Field, path (data.text) or column with a record's text.")
    ] = "text",
    encoding: Annotated[str, typer.Option(metavar="NAME", help="Encoding of the text.")] = "utf-8",
    listing: Annotated[
        str | None,
        typer.Option(
            "--list", metavar="FILE", help="Write the documents to leave out, as JSON Lines."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing --list.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that was found.")] = False,
) -> None:
    """Report which tasks of an evaluation can be found in training text.

    A task is found when 13 words in a row of its prompt with the solution, or of its tests, are.
    """
    from shared.files import expand_user
    from shared.output_file import check_output, write_output
    from trainer.data.encodings import find_encoding
    from trainer.data.inputs import find_inputs
    from trainer.tasks.decontamination import check_documents, documents_of
    from trainer.tasks.reading import read_prompts

    target = None if listing is None else expand_user(listing)
    if target is not None:
        check_output(target, force=force)
    encoding = find_encoding(encoding)
    evaluations = {path: read_prompts(path) for path in against}
    inputs = find_inputs(text)
    with show_progress("reading", inputs.size) as update:
        documents = documents_of(inputs.files, text_field, encoding=encoding, position=update)
        found = check_documents(evaluations, documents)
    if target is not None:
        write_output(target, _listed(found), force=force)
    if as_json:
        print_json(_as_json(found))
        return
    _tell_found(found)
    if target is not None:
        typer.echo(f"{one_line(target)}: {plural(len(found.hits), 'document')} to leave out")


def _tell_found(found: Contamination) -> None:
    rows = [("evaluation", "tasks", "too short", "found", "share")]
    rows += [
        (
            shorten(one_line(part.name), 60),
            f"{part.tasks:,}",
            f"{part.short:,}",
            f"{len(part.found):,}",
            f"{100 * part.share:.1f} %",
        )
        for part in found.evaluations
    ]
    print_table(rows, numbers=(1, 2, 3))
    for part in found.evaluations:
        for hit in list(part.found.values())[:_EXAMPLES]:
            where = shorten(one_line(hit.document), 100)
            typer.echo(f"{one_line(hit.task, 60)} in {where}: {one_line(hit.words, 120)}")
    hits = f"{len(found.hits):,} of {plural(found.documents, 'document')}"
    typer.echo(f"{hits} with text of a task; {plural(found.words, 'word')} read")


def _listed(found: Contamination) -> Iterator[bytes]:
    from shared.json_text import encode_line

    for document, task in found.hits.items():
        line = {"file": document.path, "document": document.number, "task": task}
        yield encode_line(line) + b"\n"


def _as_json(found: Contamination) -> dict[str, object]:
    return {
        "documents": found.documents,
        "words": found.words,
        "documents_with_tasks": len(found.hits),
        "evaluations": [
            {
                "name": part.name,
                "tasks": part.tasks,
                "too_short": part.short,
                "found": len(part.found),
                "share": part.share,
                "examples": [
                    {
                        "task": hit.task,
                        "file": hit.document.path,
                        "document": hit.document.number,
                        "words": hit.words,
                    }
                    for hit in part.found.values()
                ],
            }
            for part in found.evaluations
        ],
    }
