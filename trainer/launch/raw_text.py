"""`--data`: training straight from text, which is prepared once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.text import one_line
from trainer.checkpoint.tokenizer_files import tokenizer_files
from trainer.config.resolve import Settings, resolve
from trainer.data.progress import ProgressFactory, silent
from trainer.launch.raw_data import kept_folder

ASCII_VOCABULARY = 99
BYTE_VOCABULARY = 258
CHARACTER_SPLIT = 0.1  # the MiniGPT guide's 90/10
BPE_SPLIT = 0.05
BPE_VOCABULARY = 4096


def prepare_text(
    paths: Sequence[str],
    layers: Sequence[Settings],
    runs_dir: Path,
    progress: ProgressFactory = silent,
    *,
    text_field: str = "text",
    model: Path | None = None,
    tell: Callable[[str], None] = lambda note: None,
) -> Path:
    """Prepare token files from `paths` for the configuration of `layers`; returns their folder,
    below the runs directory.

    `tell` receives what a person should know about the text.
    The configured vocabulary size picks the tokenizer: 99 means ASCII characters, 258 bytes, any
    other size byte-level BPE. `model` is a folder whose tokenizer is used instead. The files are
    used again as long as no input changes.
    """
    from trainer.data.prepare import PrepareSettings, prepare

    size = resolve(*layers).model.vocab_size
    character = size in (ASCII_VOCABULARY, BYTE_VOCABULARY)
    own = _tokenizer_settings(model) if model else None
    folder = kept_folder(runs_dir, "", paths, [size if own is None else own, text_field])
    if not (folder / "train.bin").is_file():  # put in place last
        common: dict[str, Any] = {
            "inputs": list(paths),
            "output": str(folder),
            "val_split": CHARACTER_SPLIT if character else BPE_SPLIT,
            "text_field": text_field,
            "overwrite": True,
        }
        if own is not None:
            chosen = PrepareSettings(**common, **own)
        else:
            chosen = PrepareSettings(
                **common,
                vocab_size=None if character else size or BPE_VOCABULARY,
                kind="char" if character else "bpe",
                charset="ascii" if size == ASCII_VOCABULARY else "bytes",
                replace=size == ASCII_VOCABULARY,
            )
        prepared = prepare(chosen, progress)
        for note in prepared.notes:
            tell(note)
    return folder


def _tokenizer_settings(model: Path) -> dict[str, Any]:
    """The settings with which `prepare` uses the tokenizer of a model folder."""
    try:
        first, *rest = tokenizer_files(model)
    except UserError as error:
        raise UserError(
            f"{one_line(model)} has no tokenizer.json to tokenize --data with; prepare the text "
            "with `trainer prepare-data --tokenizer`, and give --data-path."
        ) from error
    if rest:
        return {"vocab": str(first), "merges": str(rest[0])}
    return {"tokenizer": str(first.parent)}  # adapters may have their base's
