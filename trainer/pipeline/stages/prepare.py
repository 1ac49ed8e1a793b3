"""Text to token files, and generated tasks to prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from shared.errors import UserError
from shared.files import absolute_path
from shared.json_text import Json
from shared.text import one_line
from trainer.config.schema import Count, Section
from trainer.data.inputs import find_inputs
from trainer.data.tokens import MANIFEST, find_tokens, read_sidecar, sidecar_path
from trainer.pipeline.stages.interface import Context, Outputs, StageError, Work


class PrepareSection(Section):
    """What is trained on."""

    text: list[str] = Field(
        [], description="Text, .jsonl and .parquet files, folders or globs to train on."
    )
    tokens: str | None = Field(
        None, description="Token files that are prepared already (FILE or DIR), in place of text."
    )
    output: str | None = Field(
        None, description="Folder for the token files; null: NAME-data beside the checkpoints."
    )
    vocab_size: Count = Field(4096, description="Tokens in the vocabulary that is trained.")
    kind: Literal["bpe", "char"] = Field("bpe", description="Kind of tokenizer: bpe or char.")
    val_split: float = Field(0.05, gt=0, lt=1, description="Share of the text held out.")
    text_field: str = Field("text", description="Field of records that holds their text.")
    skip_bad: bool = Field(False, description="Leave out records that cannot be read.")
    seed: int = Field(0, ge=0, description="Seed of the validation split.")


class Prepare:
    """`trainer prepare-data` on the text."""

    name: ClassVar[str] = "prepare"
    title: ClassVar[str] = "prepare data"
    section: ClassVar[type[Section]] = PrepareSection
    uses: ClassVar[tuple[str, ...]] = ()

    def skipped(self, context: Context) -> str:
        """Never."""
        return ""

    def settings(self, context: Context) -> Json:
        """What the token files depend on, beside the text."""
        asked = _section(context)
        if bool(asked.text) == bool(asked.tokens):
            raise UserError(
                "The section prepare needs either text (files to train on) or tokens (what "
                "prepare-data wrote)."
            )
        if asked.tokens:
            return {"tokens": str(absolute_path(asked.tokens))}
        return {**asked.model_dump(exclude={"tokens", "output"}), "folder": str(_folder(context))}

    def inputs(self, context: Context) -> Sequence[Path]:
        """The text."""
        asked = _section(context)
        if asked.tokens:
            return _token_files(absolute_path(asked.tokens))
        return [file.path.resolve() for file in find_inputs(asked.text).files]

    def work(self, context: Context, work: Work) -> Outputs:
        """Prepare the text; token files that are there already are only looked at."""
        asked = _section(context)
        if asked.tokens:
            folder = absolute_path(asked.tokens)
        else:
            folder = _folder(context)
            options = ["--vocab-size", str(asked.vocab_size)] if asked.kind == "bpe" else []
            if asked.skip_bad:
                options.append("--skip-bad")
            work.command(
                "prepare-data",
                *(part for text in asked.text for part in ("--text", text)),
                "--output",
                str(folder),
                "--kind",
                asked.kind,
                "--val-split",
                str(asked.val_split),
                "--text-field",
                asked.text_field,
                "--seed",
                str(asked.seed),
                "--overwrite",
                *options,
            )
        files = _token_files(folder)
        if not files:
            raise StageError(f"{one_line(folder)} holds no token files, such as train.bin.")
        sidecar = read_sidecar(find_tokens(folder))
        tokens = sidecar.num_tokens if sidecar else files[0].stat().st_size // 4
        told = f", a vocabulary of {sidecar.vocab_size:,}" if sidecar else ""
        return Outputs(
            tuple(files),
            {
                "data": str(folder),
                "tokens": tokens,
                "vocabulary": sidecar.vocab_size if sidecar else None,
                "result": f"{tokens:,} tokens{told}",
            },
        )


def _section(context: Context) -> PrepareSection:
    found: PrepareSection = context.config.section("prepare")
    return found


def _folder(context: Context) -> Path:
    asked = _section(context).output
    return absolute_path(asked) if asked else context.place.folder("data")


def _token_files(path: Path) -> list[Path]:
    """The token files at a path, with their sidecars and tokenizer, as far as they are there."""
    folder = path if path.is_dir() else path.parent
    tokens = [path] if path.is_file() else [folder / "train.bin", folder / MANIFEST]
    beside = [folder / "val.bin", folder / "tokenizer.json", *sorted(folder.glob("shards-*/*.bin"))]
    bins = [file for file in (*tokens, folder / "val.bin") if file.suffix == ".bin"]
    wanted = [*tokens, *beside, *map(sidecar_path, bins)]
    return [file for file in dict.fromkeys(wanted) if file.is_file()]
