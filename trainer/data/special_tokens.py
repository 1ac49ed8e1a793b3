"""Which tokens of a vocabulary end a text and pad it: by the configuration, or by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.text import format_bytes, one_line
from trainer.data.byte_level import (
    ASCII_END_OF_TEXT,
    ASCII_PADDING,
    END_OF_TEXT,
    PADDING,
)

KNOWN_ENDS = (
    END_OF_TEXT,
    ASCII_END_OF_TEXT,
    "</s>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
)
KNOWN_PADS = (PADDING, ASCII_PADDING, "<|endoftext|>")
_MOST_BYTES = 512 << 20  # of a tokenizer's file; the largest published ones have 40 MB


def refuse_huge(*files: Path) -> None:
    """Raise UserError for a file that is far too large for a tokenizer, before it is read."""
    for file in files:
        if file.is_file() and (size := file.stat().st_size) > _MOST_BYTES:
            raise UserError(
                f"{one_line(file)} has {format_bytes(size)}; a tokenizer's files have at most "
                f"{format_bytes(_MOST_BYTES)}."
            )


def special_token(
    config: dict[str, Any], key: str, vocabulary: dict[str, int], known: Sequence[str]
) -> str | None:
    """The special token that the config names, or else the first of `known` in the vocabulary."""
    named = config.get(key)
    if isinstance(named, dict):
        named = named.get("content")
    if isinstance(named, str) and named in vocabulary:
        return named
    return next((token for token in known if token in vocabulary), None)
