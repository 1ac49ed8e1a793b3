"""The tokenizer of a GGUF file, splitting text as llama.cpp does."""

from __future__ import annotations

from typing import Any

import numpy as np
from tokenizers import AddedToken, models, processors

from shared.errors import UserError
from shared.text import one_line
from trainer.data.byte_level import (
    DIGITS_PATTERN,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    byte_level_backend,
)
from trainer.data.tokenizer import Tokenizer
from trainer.formats.gguf_parsing import GGUFFile
from trainer.formats.gguf_tokenizer import DUMMY_MERGE

_GPT2 = (
    "gpt-2 mpt olmo phi-2 jais trillion granite-docling gigachat exaone4 a.x-4.0 mellum modern-bert"
)
_QWEN2 = "qwen2 deepseek-r1-qwen stablelm2 hunyuan megrez kormo f2llmv2 grok-2 solar-open"
_LLAMA3 = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2"
_LLAMA3_MERGED = "dbrx smaug-bpe chatglm-bpe glm4"
_DIGITS = "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2"
#: llama.cpp's names for the supported split patterns (llama-vocab.cpp).
_PATTERN_OF_PRE = {
    **dict.fromkeys(_GPT2.split(), GPT2_PATTERN),
    **dict.fromkeys(_QWEN2.split(), QWEN2_PATTERN),
    **dict.fromkeys((*_LLAMA3.split(), *_LLAMA3_MERGED.split()), LLAMA3_PATTERN),
    **dict.fromkeys(_DIGITS.split(), DIGITS_PATTERN),
}
#: For these, llama.cpp uses a word's own token if there is one, whatever the merges say, and
#: begins every text with a token.
_WHOLE_WORDS = frozenset(_LLAMA3.split())
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5
_SPECIALS = {"eos_token": "eos", "bos_token": "bos", "pad_token": "padding"}


def read_tokenizer(file: GGUFFile) -> Tokenizer:
    """The tokenizer in the file.

    Raises UserError if there is none, or its split is not supported.
    """
    name = one_line(file.path)
    kind, pre = file.text("tokenizer.ggml.model"), file.text("tokenizer.ggml.pre")
    if kind is None:
        raise UserError(f"{name} contains no tokenizer; name one with --tokenizer.")
    if kind != "gpt2":
        raise UserError(
            f"The tokenizer of {name} has the type {one_line(kind, 40)!r}; only byte-level BPE "
            "(gpt2) can be read. Name its tokenizer.json with --tokenizer."
        )
    if pre not in _PATTERN_OF_PRE:
        shown = "no split pattern" if pre is None else f"the split {one_line(pre, 40)!r}"
        raise UserError(
            f"The tokenizer of {name} has {shown}, which only llama.cpp computes: use `trainer "
            "serve`, or name the model's tokenizer.json with --tokenizer."
        )
    tokens, kinds = _tokens(file)
    merges = _merges(file, set(tokens))
    whole = pre in _WHOLE_WORDS
    vocabulary = {token: index for index, token in enumerate(tokens)}
    model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole)
    backend = byte_level_backend(model, _PATTERN_OF_PRE[pre])
    special = {key: _special(file, word, tokens) for key, word in _SPECIALS.items()}
    named = {token for token in special.values() if token is not None}
    kind_of = dict(zip(tokens, kinds, strict=True))
    backend.add_special_tokens([t for t in tokens if kind_of[t] == _CONTROL or t in named])
    own = [t for t in tokens if kind_of[t] == _USER_DEFINED and t not in named]
    backend.add_tokens([AddedToken(token, normalized=False) for token in own])
    bos = special["bos_token"]
    # llama.cpp adds it for some splits unless the file says no.
    if bos is not None and file.values.get("tokenizer.ggml.add_bos_token", whole) is True:
        token = {"id": "bos", "ids": [vocabulary[bos]], "tokens": [bos]}
        backend.post_processor = processors.TemplateProcessing(
            single="bos $A", pair="bos $A $B", special_tokens=[token]
        )
    try:
        return Tokenizer(backend, {key: token for key, token in special.items() if token})
    except UserError as error:
        raise UserError(f"The tokenizer of {name} cannot be used: {error}.") from error


def read_chat_template(file: GGUFFile) -> str | None:
    """The Jinja template in the file, or None."""
    return file.text("tokenizer.chat_template") or None


def end_ids(file: GGUFFile) -> frozenset[int]:
    """The tokens that end a text, a turn or a message in the file."""
    ends = (file.values.get(f"tokenizer.ggml.{word}_token_id") for word in ("eos", "eot", "eom"))
    return frozenset(end for end in ends if isinstance(end, int) and not isinstance(end, bool))


def _tokens(file: GGUFFile) -> tuple[list[str], list[int]]:
    """The tokens by id and their types, without the unused ones at the end."""
    name = one_line(file.path)
    tokens = _texts(file, "tokenizer.ggml.tokens")
    kinds: Any = file.values.get("tokenizer.ggml.token_type")
    if kinds is None:
        kinds = np.ones(len(tokens), np.int32)
    if not isinstance(kinds, np.ndarray) or len(kinds) != len(tokens):
        raise UserError(f"{name} has {len(tokens)} tokens but another number of token types.")
    end = len(tokens)
    while end and kinds[end - 1] == _UNUSED:
        end -= 1
    if len(set(tokens[:end])) < end:
        raise UserError(f"{name} has two tokens with the same text.")
    return tokens[:end], kinds[:end].tolist()


def _merges(file: GGUFFile, vocabulary: set[str]) -> list[tuple[str, str]]:
    merges = []
    for line in _texts(file, "tokenizer.ggml.merges"):
        left, _, right = line.partition(" ")
        if vocabulary.issuperset((left, right, left + right)):
            merges.append((left, right))
        elif line != DUMMY_MERGE:
            raise UserError(
                f"{one_line(file.path)} has the merge {one_line(line, 60)!r}, but not its tokens."
            )
    return merges


def _texts(file: GGUFFile, key: str) -> list[str]:
    texts = file.values.get(key)
    if not isinstance(texts, list) or not texts:
        raise UserError(f"{one_line(file.path)} has no list {key}.")
    return texts


def _special(file: GGUFFile, word: str, tokens: list[str]) -> str | None:
    index = file.values.get(f"tokenizer.ggml.{word}_token_id")
    if index is None:
        return None
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(tokens):
        raise UserError(
            f"{one_line(file.path)} has {word}_token_id {one_line(index, 40)}, but its tokens are "
            f"0 to {len(tokens) - 1}."
        )
    return tokens[index]
