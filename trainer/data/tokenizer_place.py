"""What a folder has for a tokenizer. Loads no tokenizer library."""

from __future__ import annotations

from pathlib import Path

from shared.text import one_line

#: Files of tokenizers that are not read here.
_OTHER_KINDS = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "*.tiktoken",
    "vocab.txt",
)


def gpt2_pair(folder: Path) -> tuple[Path, Path] | None:
    """GPT-2's `vocab.json` and `merges.txt`, if both are there."""
    pair = folder / "vocab.json", folder / "merges.txt"
    return pair if all(path.is_file() for path in pair) else None


def why_other_kind(folder: Path) -> str | None:
    """A sentence about a tokenizer of a kind that is not read, if the folder has one."""
    for name in _OTHER_KINDS:
        found = next((path for path in sorted(folder.glob(name)) if path.is_file()), None)
        if found is not None:
            return (
                f"{one_line(folder)} has no tokenizer.json, but {one_line(found.name, 60)}, a "
                "tokenizer of another kind; load the folder with AutoTokenizer of transformers and "
                "save it with save_pretrained, which writes a tokenizer.json."
            )
    return None
