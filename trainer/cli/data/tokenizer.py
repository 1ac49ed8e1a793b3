"""`trainer tokenizer train`: a tokenizer from text, without token files."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer.cli.help import command_group
from trainer.cli.output import show_progress

app = command_group("Train tokenizers.")

KindOption = Annotated[
    str,
    typer.Option(metavar="bpe|char", help="Byte-level BPE, or one token per byte or character."),
]
CharsetOption = Annotated[
    str,
    typer.Option(
        metavar="bytes|ascii",
        help="For --kind char: all 256 bytes (258 tokens, lossless), or printable ASCII with "
        "newline and tab (99 tokens).",
    ),
]
MinFrequencyOption = Annotated[int, typer.Option(help="Times a pair must occur to become a token.")]
FieldOption = Annotated[
    str, typer.Option(help="Field, path (data.text) or column with a record's text.")
]
EncodingOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Encoding of text and JSON Lines, such as cp1252; a byte order mark overrides it.",
    ),
]
SkipBadOption = Annotated[
    bool,
    typer.Option(
        "--skip-bad",
        help="Replace bytes that are not text and leave out records that cannot be read; "
        "bad_records.jsonl lists them.",
    ),
]


@app.callback()
def tokenizer() -> None:
    """Train tokenizers."""


@app.command()
def train(
    *,
    output_dir: Annotated[
        str, typer.Option(metavar="DIR", help="Folder for the tokenizer's files.")
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="PATHS", hidden=True)] = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--files",
            "--text",
            "--input",
            metavar="PATHS",
            help="Text files, folders or quoted globs; several may follow.",
        ),
    ] = None,
    vocab_size: Annotated[int, typer.Option(help="Tokens in the BPE vocabulary.")] = 4096,
    kind: KindOption = "bpe",
    charset: CharsetOption = "bytes",
    min_frequency: MinFrequencyOption = 2,
    text_field: FieldOption = "text",
    encoding: EncodingOption = "utf-8",
    skip_bad: SkipBadOption = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an existing tokenizer."),
    ] = False,
) -> None:
    """Train a tokenizer and write tokenizer.json, vocab.json and merges.txt."""
    from trainer.data.tokenizer_training import TrainSettings, train_on_files

    trained, notes = train_on_files(
        TrainSettings(
            inputs=[*(files or ()), *(more or ())],
            output_directory=output_dir,
            vocab_size=vocab_size,
            kind=kind,  # type: ignore[arg-type]
            charset=charset,  # type: ignore[arg-type]
            min_frequency=min_frequency,
            text_field=text_field,
            encoding=encoding,
            skip_bad=skip_bad,
            overwrite=overwrite,
        ),
        show_progress,
    )
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"{output_dir}: {trained.kind} tokenizer with {trained.vocab_size} tokens")
