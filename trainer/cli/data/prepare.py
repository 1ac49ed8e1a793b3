"""`trainer prepare-data`: text files to token files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from shared.text import one_line, plural
from trainer.cli.data.tokenizer import (
    CharsetOption,
    EncodingOption,
    FieldOption,
    KindOption,
    MinFrequencyOption,
    SkipBadOption,
)
from trainer.cli.models.model_options import tokenizer_asked
from trainer.cli.output import show_progress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.data.commit import Prepared
    from trainer.data.prepare import PrepareSettings
    from trainer.data.shards.prepare import Kind
    from trainer.data.tokens import Sidecar


def prepare_data(
    *,
    context: typer.Context,
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
    chat: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATHS",
            help="Conversations to learn answers from, instead of text: records with messages, or "
            "prompt and completion.",
        ),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Template of --chat in Jinja; default: the tokenizer's own."
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(metavar="N", help="Refuse conversations of more tokens, or skip them."),
    ] = None,
    datatrove: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Tokens that datatrove's DocumentTokenizer wrote, instead of text: check and "
            "describe them there, for training.",
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
        typer.Option(help="Tokens in a new BPE vocabulary; default: 4096."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|DIR|OWNER/NAME",
            help="Use this tokenizer.json, or that of a model of the Hub, instead of a new one.",
        ),
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
    decontaminate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASKS",
            help="Leave out documents that have text of these tasks (13 words in a row), as "
            "`trainer tasks check` finds them; may be given several times.",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Write the training tokens as N files, made by many processes; the same command "
            "finishes what was interrupted.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Processes for --shards, threads for --datatrove; default: one per core.",
        ),
    ] = None,
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
    are complete. With --chat, mask files beside the tokens say what the assistant said.
    """
    if datatrove is not None:
        from trainer.data.shards.datatrove import DatatroveSettings, describe_datatrove

        _refuse_beside_datatrove(context)
        described = DatatroveSettings(
            datatrove, tokenizer_asked(tokenizer), val_split, overwrite, workers
        )
        _tell(describe_datatrove(described, show_progress))
        return
    _refuse_without_shards(shards, workers)
    _refuse_decontamination(decontaminate, chat, shards)
    if chat is not None:
        from trainer.conversations.prepare import ChatSettings, prepare_chat

        _refuse_beside_chat(context)
        chat_settings = ChatSettings(
            inputs=[*chat, *(more or ())],
            output=output,
            val_output=val_output,
            val_split=val_split,
            tokenizer=tokenizer_asked(tokenizer),
            template=chat_template,
            encoding=encoding,
            max_tokens=max_tokens,
            skip_bad=skip_bad,
            seed=seed,
            overwrite=overwrite,
        )
        if shards is None:
            _tell(prepare_chat(chat_settings, show_progress))
            return
        from trainer.conversations.shards import ChatKind

        _make_shards(ChatKind(chat_settings), shards, workers)
        return
    _refuse_without_chat(chat_template, max_tokens)
    from trainer.data.prepare import PrepareSettings, prepare

    settings = PrepareSettings(
        inputs=[*(inputs or ()), *(more or ())],
        output=output,
        val_output=val_output,
        val_split=val_split,
        vocab_size=vocab_size,
        tokenizer=tokenizer_asked(tokenizer),
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
    )
    if decontaminate is not None:
        settings = _without_tasks(settings, decontaminate)
    if shards is None:
        _tell(prepare(settings, show_progress))
        return
    from trainer.data.shards.text_kind import TextKind

    _make_shards(TextKind(settings), shards, workers)


def _without_tasks(settings: PrepareSettings, tasks: Sequence[str]) -> PrepareSettings:
    """The settings that leave out the documents in which these tasks are found."""
    from trainer.data.prepare import check_settings_of
    from trainer.tasks.clean_text import without_tasks
    from trainer.tasks.reading import read_prompts

    check_settings_of(settings)
    clean, found = without_tasks(settings, {path: read_prompts(path) for path in tasks})
    for evaluation in found.evaluations:
        typer.echo(
            f"note: {one_line(evaluation.name)}: {len(evaluation.found):,} of "
            f"{plural(evaluation.tasks, 'task')} found in the text",
            err=True,
        )
    return clean


def _refuse_decontamination(
    decontaminate: list[str] | None, chat: list[str] | None, shards: int | None
) -> None:
    from shared.errors import UserError

    if decontaminate is None:
        return
    for option, value in (("--chat", chat), ("--shards", shards)):
        if value is not None:
            raise UserError(
                f"--decontaminate and {option} are both given; `trainer tasks check --list` names "
                "the documents to leave out before."
            )


def _make_shards(kind: Kind, shards: int, workers: int | None) -> None:
    from trainer.data.shards.prepare import prepare_shards

    try:
        _tell(prepare_shards(kind, shards, workers, show_progress))
    except KeyboardInterrupt:
        note = "finished shards are kept: the same command goes on where it was interrupted"
        typer.echo(f"note: {note}", err=True)
        raise


#: Options that are about text or a new tokenizer.
_OF_TEXT = {
    "inputs": "--text",
    "vocab_size": "--vocab-size",
    "vocab": "--vocab",
    "merges": "--merges",
    "kind": "--kind",
    "charset": "--charset",
    "min_frequency": "--min-frequency",
    "replace": "--replace",
    "text_field": "--text-field",
}


#: Options that say something about tokens which are there.
_OF_DATATROVE = ("datatrove", "tokenizer", "val_split", "overwrite", "workers")


def _refuse_beside_datatrove(context: typer.Context) -> None:
    """Raise UserError for an option that --datatrove does not use."""
    from shared.errors import UserError

    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in _OF_DATATROVE and source is not None and source.name == "COMMANDLINE":
            option = {**_OF_TEXT, "more": "a path"}.get(name, "--" + name.replace("_", "-"))
            raise UserError(
                f"{option} and --datatrove are both given; the tokens are there already, and only "
                "--tokenizer, --val-split, --workers and --overwrite count."
            )


def _refuse_beside_chat(context: typer.Context) -> None:
    """Raise UserError for an option that --chat does not use."""
    from shared.errors import UserError

    for name, option in _OF_TEXT.items():
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UserError(
                f"{option} and --chat are both given; conversations use the tokenizer of a model "
                "(--tokenizer), and text is prepared on its own."
            )


def _refuse_without_shards(shards: int | None, workers: int | None) -> None:
    from shared.errors import UserError

    if workers is not None and shards is None:
        raise UserError(f"--workers {workers} is for --shards, which is missing.")


def _refuse_without_chat(chat_template: str | None, max_tokens: int | None) -> None:
    from shared.errors import UserError

    for option, value in (("--chat-template", chat_template), ("--max-tokens", max_tokens)):
        if value is not None:
            raise UserError(f"{option} {one_line(value, 60)} is for --chat, which is missing.")


def _tell(prepared: Prepared) -> None:
    for note in prepared.notes:
        typer.echo(f"note: {note}", err=True)
    if not prepared.train_sidecar.text_bytes and not prepared.train_sidecar.mask:
        _tell_tokens(prepared)
        return
    sides = [(prepared.train, prepared.train_sidecar)]
    if prepared.val and prepared.val_sidecar:
        sides.append((prepared.val, prepared.val_sidecar))
    for line in _chat_summary(sides) if prepared.train_sidecar.mask else _summary(sides):
        typer.echo(line)


def _tell_tokens(prepared: Prepared) -> None:
    """What is known of tokens whose text is not."""
    for path, side in (
        (prepared.train, prepared.train_sidecar),
        (prepared.val, prepared.val_sidecar),
    ):
        if path is not None and side is not None:
            documents = plural(side.num_documents, "document")
            typer.echo(f"{path}: {plural(side.num_tokens, 'token')}, {documents}")


def _chat_summary(sides: Sequence[tuple[Path, Sidecar]]) -> list[str]:
    lines = [
        f"{path}: {plural(side.num_documents, 'conversation')}, {plural(side.num_tokens, 'token')},"
        f" {side.counted_tokens:,} of them the assistant's"
        for path, side in sides
    ]
    longest = max(side.longest for _, side in sides)
    return [*lines, f"the longest conversation has {plural(longest, 'token')}"]


def _summary(sides: Sequence[tuple[Path, Sidecar]]) -> list[str]:
    lines = [
        f"{path}: {plural(side.num_tokens, 'token')}, {plural(side.num_documents, 'document')}, "
        f"{side.text_bytes:,} bytes of text"
        for path, side in sides
    ]
    _, train = sides[0]
    text = sum(side.text_bytes for _, side in sides)
    tokens = sum(side.num_tokens for _, side in sides)
    split = {"none": "not split", "documents": "split by documents", "blocks": "split by position"}
    lines.append(
        f"vocabulary {train.vocab_size} ({train.tokenizer_kind}), {text / max(tokens, 1):.2f} "
        f"bytes per token, {split[train.split_rule]}"
    )
    return lines
