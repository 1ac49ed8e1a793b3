"""`trainer prepare-data`: text files to token files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shared.text import plural
from trainer.cli.data.tokenizer import (
    CharsetOption,
    EncodingOption,
    FieldOption,
    KindOption,
    MinFrequencyOption,
    SkipBadOption,
)
from trainer.cli.output import show_progress

if TYPE_CHECKING:
    from trainer.data.prepare import Prepared


def prepare_data(
    *,
    more: Annotated[list[str] | None, typer.Argument(metavar="PATHS", hidden=True)] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            "--input",
            "--files",
            metavar="PATHS",
            help="Text, .jsonl, .parquet files (.gz, .zst, .xz, .bz2), folders or quoted globs; "
            "several may follow.",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option(metavar="DIR|FILE.bin", help="Folder or file for the training tokens.")
    ] = "data",
    val_output: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.bin", help="File for the validation tokens; default: val.bin beside them."
        ),
    ] = None,
    val_split: Annotated[
        float, typer.Option(help="Share of the text held out for validation; 0: none.")
    ] = 0.05,
    vocab_size: Annotated[
        int | None,
        typer.Option(help="Tokens in a new BPE vocabulary.", show_default="4096"),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(metavar="FILE|DIR", help="Use this tokenizer.json instead of a new one."),
    ] = None,
    vocab: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Use this vocab.json, with --merges."),
    ] = None,
    merges: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Use this merges.txt, with --vocab."),
    ] = None,
    kind: KindOption = "bpe",
    charset: CharsetOption = "bytes",
    min_frequency: MinFrequencyOption = 2,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace characters outside the charset with '?'.")
    ] = False,
    text_field: FieldOption = "text",
    encoding: EncodingOption = "utf-8",
    skip_bad: SkipBadOption = False,
    seed: Annotated[int, typer.Option(help="Random seed of the validation split.")] = 0,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace existing token files and tokenizer.",
        ),
    ] = False,
) -> None:
    """Tokenize text into train.bin and val.bin, with a new tokenizer or a given one.

    Each file or record is one document; tokens are 32-bit. Existing files stay until the new ones
    are complete.
    """
    from trainer.data.prepare import PrepareSettings, prepare

    prepared = prepare(
        PrepareSettings(
            inputs=[*(inputs or ()), *(more or ())],
            output=output,
            val_output=val_output,
            val_split=val_split,
            vocab_size=vocab_size,
            tokenizer=tokenizer,
            vocab=vocab,
            merges=merges,
            kind=kind,  # type: ignore[arg-type]
            charset=charset,  # type: ignore[arg-type]
            min_frequency=min_frequency,
            replace=replace,
            text_field=text_field,
            encoding=encoding,
            skip_bad=skip_bad,
            seed=seed,
            overwrite=overwrite,
        ),
        show_progress,
    )
    for note in prepared.notes:
        typer.echo(f"note: {note}", err=True)
    for line in _summary(prepared):
        typer.echo(line)


def _summary(prepared: Prepared) -> list[str]:
    sides = [(prepared.train, prepared.train_sidecar)]
    if prepared.val and prepared.val_sidecar:
        sides.append((prepared.val, prepared.val_sidecar))
    lines = [
        f"{path}: {plural(side.num_tokens, 'token')}, {plural(side.num_documents, 'document')}, "
        f"{side.text_bytes:,} bytes of text"
        for path, side in sides
    ]
    train = prepared.train_sidecar
    text = sum(side.text_bytes for _, side in sides)
    tokens = sum(side.num_tokens for _, side in sides)
    split = {"none": "not split", "documents": "split by documents", "blocks": "split by position"}
    lines.append(
        f"vocabulary {train.vocab_size} ({train.tokenizer_kind}), {text / max(tokens, 1):.2f} "
        f"bytes per token, {split[train.split_rule]}"
    )
    return lines
