"""`--data`: training straight from text, which is prepared once and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson

from trainer.config.resolve import Settings, resolve
from trainer.data.progress import ProgressFactory, silent

ASCII_VOCABULARY = 99
BYTE_VOCABULARY = 258
CHARACTER_SPLIT = 0.1  # the MiniGPT guide's 90/10
BPE_SPLIT = 0.05
BPE_VOCABULARY = 4096


def prepare_text(
    paths: Sequence[str],
    settings: Settings,
    runs_dir: Path,
    progress: ProgressFactory = silent,
    *,
    text_field: str = "text",
    tell: Callable[[str], None] = lambda note: None,
) -> Path:
    """Prepare token files from `paths`; returns their folder, below the runs directory.

    `tell` receives what a person should know about the text.
    The configured vocabulary size picks the tokenizer: 99 means ASCII characters, 258 bytes, any
    other size byte-level BPE. The files are used again as long as no input changes.
    """
    from trainer.data.inputs import find_inputs
    from trainer.data.prepare import PrepareSettings, prepare

    size = resolve(settings).model.vocab_size
    character = size in (ASCII_VOCABULARY, BYTE_VOCABULARY)
    files = [file.path for file in find_inputs(paths).files]
    # A path need not be UTF-8.
    names = [os.fsencode(p.resolve()).decode("utf-8", "backslashreplace") for p in files]
    sizes = [(p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    stamps = [(name, *size) for name, size in zip(names, sizes, strict=True)]
    key = hashlib.sha256(orjson.dumps([stamps, size, text_field])).hexdigest()[:16]
    folder = runs_dir / ".data" / key
    if not (folder / "train.bin").is_file():  # put in place last
        prepared = prepare(
            PrepareSettings(
                inputs=list(paths),
                output=str(folder),
                val_split=CHARACTER_SPLIT if character else BPE_SPLIT,
                vocab_size=None if character else size or BPE_VOCABULARY,
                kind="char" if character else "bpe",
                charset="ascii" if size == ASCII_VOCABULARY else "bytes",
                replace=size == ASCII_VOCABULARY,
                text_field=text_field,
                overwrite=True,
            ),
            progress,
        )
        for note in prepared.notes:
            tell(note)
    return folder
