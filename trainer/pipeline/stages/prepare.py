"""Text to token files, and generated tasks to prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from shared.errors import UserError
from shared.files import absolute_path
from shared.json_text import Json
from shared.text import one_line
from trainer.config.section import Count, CountOrZero, Section
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
    tasks: CountOrZero = Field(
        0, description="Generated tasks to train on (their text too), and as many held-out ones."
    )
    tasks_seed: int = Field(0, ge=0, lt=2**63, description="Seed of the generated tasks.")
    language: str = Field("rust", description="Language of the generated tasks.")
    output: str | None = Field(
        None, description="Folder for what is prepared; null: NAME-data beside the checkpoints."
    )
    vocab_size: Count = Field(4096, description="Tokens in the vocabulary that is trained.")
    kind: Literal["bpe", "char"] = Field("bpe", description="Kind of tokenizer: bpe or char.")
    val_split: float = Field(0.05, gt=0, lt=1, description="Share of the text held out.")
    text_field: str = Field("text", description="Field of records that holds their text.")
    skip_bad: bool = Field(False, description="Leave out records that cannot be read.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the validation split.")

    def with_absolute_paths(self) -> PrepareSection:
        """The same with absolute paths."""
        update: dict[str, object] = {"text": [str(absolute_path(text)) for text in self.text]}
        for key in ("tokens", "output"):
            path = getattr(self, key)
            update[key] = str(absolute_path(path)) if path else path
        return self.model_copy(update=update)


class Prepare:
    """`trainer tasks make`, then `trainer prepare-data` on all text."""

    name: ClassVar[str] = "prepare"
    title: ClassVar[str] = "prepare data"
    section: ClassVar[type[Section]] = PrepareSection

    def skipped(self, context: Context) -> str:
        """Never."""
        return ""

    def settings(self, context: Context) -> Json:
        """What the token files depend on, beside the text."""
        asked = _section(context)
        if asked.tokens and asked.text:
            raise UserError(
                "The section prepare has text and tokens; give the files to train on, or what "
                "prepare-data made of them."
            )
        if not (asked.tokens or asked.text or asked.tasks):
            raise UserError(
                "The section prepare needs text (files to train on), tokens (what prepare-data "
                "wrote) or tasks (how many to generate)."
            )
        kept = {"tasks", "tasks_seed", "language"} if asked.tokens else None
        settings = asked.model_dump(include=kept, exclude={"tokens", "output"})
        return {**settings, "folder": str(_folder(context))}

    def inputs(self, context: Context) -> Sequence[Path]:
        """The text, or the tokens."""
        asked = _section(context)
        if asked.tokens:
            return token_files(absolute_path(asked.tokens))
        return [f.path.resolve() for f in find_inputs(asked.text).files] if asked.text else []

    def needs(self, context: Context) -> Sequence[Path]:
        """Nothing."""
        return ()

    def work(self, context: Context, work: Work) -> Outputs:
        """Make the tasks, and tokens of the text; tokens that are there are only looked at."""
        asked, folder = _section(context), _folder(context)
        made = _make_tasks(asked, folder / "tasks", work) if asked.tasks else {}
        if not asked.tokens:
            text = [*asked.text, *([made["text"]] if made else [])]
            _prepare(asked, text, folder, work)
        data = absolute_path(asked.tokens) if asked.tokens else folder
        files = token_files(data)
        if not files:
            raise StageError(f"{one_line(data)} holds no token files, such as train.bin.")
        sidecar = read_sidecar(find_tokens(data))
        tokens = sidecar.num_tokens if sidecar else files[0].stat().st_size // 4
        told = f", a vocabulary of {sidecar.vocab_size:,}" if sidecar else ""
        if made:
            told += f", {asked.tasks:,} tasks to train on and as many held out"
        return Outputs(
            (*files, *map(Path, made.values())),
            {
                "data": str(data),
                "tokens": tokens,
                "vocabulary": sidecar.vocab_size if sidecar else None,
                "prompts": made.get("prompts"),
                "held_out": made.get("held_out"),
                "result": f"{tokens:,} tokens{told}",
            },
        )


def _make_tasks(asked: PrepareSection, folder: Path, work: Work) -> dict[str, str]:
    """Tasks to train on, held-out ones, and the text of the first with their solutions."""
    names = {"prompts": "train.jsonl", "held_out": "held-out.jsonl", "text": "text.jsonl"}
    options = _as_options(
        {
            "output": folder,
            "language": asked.language,
            "count": asked.tasks,
            "seed": asked.tasks_seed,
        }
    )
    work.command("tasks", "make", *options, "--text", "--force")
    return {key: str(folder / name) for key, name in names.items()}


def _prepare(asked: PrepareSection, text: list[str], folder: Path, work: Work) -> None:
    """Tokenize the text."""
    options: dict[str, object] = {
        "output": folder,
        "kind": asked.kind,
        "val-split": asked.val_split,
        "text-field": asked.text_field,
        "seed": asked.seed,
    }
    if asked.kind == "bpe":
        options["vocab-size"] = asked.vocab_size
    texts = [part for one in text for part in ("--text", one)]
    skip = ["--skip-bad"] if asked.skip_bad else []
    work.command("prepare-data", *texts, *_as_options(options), "--overwrite", *skip)


def _as_options(values: Mapping[str, object]) -> list[str]:
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


def _section(context: Context) -> PrepareSection:
    found: PrepareSection = context.config.section("prepare")
    return found


def _folder(context: Context) -> Path:
    asked = _section(context).output
    return absolute_path(asked) if asked else context.place.folder("data")


def token_files(path: Path) -> list[Path]:
    """The token files at a path, with their sidecars and tokenizer, as far as they are there."""
    folder = path if path.is_dir() else path.parent
    tokens = [path] if path.is_file() else [folder / "train.bin", folder / MANIFEST]
    beside = [folder / "val.bin", folder / "tokenizer.json", *sorted(folder.glob("shards-*/*.bin"))]
    bins = [file for file in (*tokens, folder / "val.bin") if file.suffix == ".bin"]
    wanted = [*tokens, *beside, *map(sidecar_path, bins)]
    return [file for file in dict.fromkeys(wanted) if file.is_file()]
