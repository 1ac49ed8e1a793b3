"""The prompts for comparing an export with its model: texts, and the run's own data."""

# ruff: noqa: RUF001  look-alikes are the point here

from __future__ import annotations

import contextlib
from pathlib import Path

from shared.checkpoints.catalogue import META
from shared.errors import UserError
from shared.files import read_json
from trainer.checkpoint.opening import OpenedModel
from trainer.data.places import validation_files
from trainer.data.tokens import open_tokens

NEW_TOKENS = 64
DATA_WINDOWS = 4
_BEGINNINGS = ("", "The ", "def main(", "Once upon a time", "\n", "1, 2, 3,")

#: Texts on which tokenizers differ: spaces, digits, contractions, scripts, signs, controls.
TRICKY_TEXTS = (
    "Hello, world!",
    "  leading and trailing  ",
    "tabs\tand\n\nnewlines\r\n\r\n  indented",
    "\n", "\n\n\n", " ", "   ", "\t\t", " \n \n ", "a  b   c    d",
    "I'm you're he'll we've they'd IT'S it's ’s",
    "0 12 345 6789 1234567890 3.14159 1e-5 0x7f ½ ² ٣",
    "def f(x: int) -> str:\n    return f\"{x!r:>10}\"  # done\n",
    "if(a&&b||!c){x+=1;}//~^%$#@",
    "camelCase snake_case SCREAMING_CASE kebab-case",
    "naïve café Straße Ångström ﬁ",
    "Привет, мир! Καλημέρα κόσμε",
    "你好，世界。こんにちは 안녕하세요",
    "مرحبا بالعالم שלום",
    "🙂👩‍👩‍👧‍👦🇩🇪 ✓ → ∑ ∞",
    "e\u0301 \u00e9 \u200b \u00a0 \u3000 \ufeff",
    "\x00\x01\x7f\x1b[31m",
    "<|endoftext|> <s> </s> [PAD] <pad>",
    "…‘quoted’ “double” — dash – –– ---- ____",
    "http://example.org/a?b=c&d=%20#e user@example.org",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "!!!???...,,,;;;:::",
    "word" * 20,
)  # fmt: skip


def prompts_for(opened: OpenedModel) -> list[list[int]]:
    """Token ids to continue, each short enough for at least one more token.

    Beginnings of texts, and windows of the run's validation data if it can be found.
    """
    tokenizer = opened.tokenizer
    begun = [
        tokenizer.encode(text) or [tokenizer.eos_id]
        for text in _BEGINNINGS
        if not tokenizer.outside(text)
    ]
    longest = max(1, opened.context - NEW_TOKENS)
    return [ids[:longest] for ids in (*begun, *_validation_windows(opened, longest))]


def _validation_windows(opened: OpenedModel, longest: int) -> list[list[int]]:
    """Evenly spaced windows of the validation tokens; none if the file is gone."""
    path = _validation_file(opened.path)
    if path is None:
        return []
    length = min(longest, 2 * NEW_TOKENS)
    with contextlib.suppress(UserError, OSError, ValueError):
        tokens = open_tokens(
            path,
            vocab_size=opened.model.dimensions.V,
            tokenizer_hash=opened.tokenizer.hash,
        ).tokens
        places = range(0, max(1, len(tokens) - length), max(1, len(tokens) // DATA_WINDOWS))
        return [tokens[start : start + length].tolist() for start in places[:DATA_WINDOWS]]
    return []


def _validation_file(checkpoint: Path) -> Path | None:
    config = (read_json(checkpoint / META) or {}).get("config")
    data = config.get("data") if isinstance(config, dict) else None
    if not isinstance(data, dict):
        return None
    with contextlib.suppress(UserError, OSError, ValueError):
        if data.get("val_path"):
            return Path(str(data["val_path"]))
        return next(validation_files(data), None)
    return None
