"""The tokenizer inside a GGUF file: the tokens of the one that was written, or a sentence."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from gguf import GGUFValueType
from gguf.gguf_writer import GGUFValue

from tests.trainer.formats.conftest import TEXTS, make_model, opened, refused, value
from trainer.data.byte_level import (
    CHARACTER_OF_BYTE,
    END_OF_TEXT,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    PADDING,
    byte_level_backend,
)
from trainer.data.tokenizer import Tokenizer
from trainer.formats.gguf_writing import StoredTensor

STRING, LIST = GGUFValueType.STRING, GGUFValueType.ARRAY


def fuzzed(count: int) -> list[str]:
    rng = random.Random(0)
    pieces = ["def", " main", "()", "'s", "don't", "DON'T", "123", "4567", " ", "  ", "\n", "\r\n"]
    pieces += ["\t", "é", "ß", "😀", "中文", " ", "\u0301", "<|endoftext|>", "<|pad|>", "_", "=="]
    pieces += ["İ", "ﬁ", "\u00a0", "٣", "²", "a", "B", "!", "...", "\x00", "\x7f", "\u200b"]
    return ["".join(rng.choices(pieces, k=rng.randrange(1, 12))) for _ in range(count)]


def with_pattern(pattern: str) -> Tokenizer:
    """A tokenizer that splits with `pattern`, trained so that its merges meet the pattern."""
    whole_words = pattern == LLAMA3_PATTERN  # as Llama 3's own tokenizer
    backend = byte_level_backend(tokenizers.models.BPE(ignore_merges=whole_words), pattern)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290,
        show_progress=False,
        initial_alphabet=sorted(CHARACTER_OF_BYTE.values()),
        special_tokens=[END_OF_TEXT, PADDING],
    )
    backend.train_from_iterator(TEXTS, trainer)
    return Tokenizer(backend)


@pytest.mark.parametrize("which", ["bpe", "chars", "gpt-2", "llama-bpe"])
def test_tokens_are_those_of_the_tokenizer_written(which: str, write_gguf, bpe, chars) -> None:
    made = {"bpe": bpe, "chars": chars}.get(which)
    pattern = GPT2_PATTERN if which == "gpt-2" else LLAMA3_PATTERN
    tokenizer = made or with_pattern(pattern)
    got = opened(write_gguf(make_model(), tokenizer=tokenizer)).tokenizer
    for text in fuzzed(2000):
        written = tokenizer.encode(text)
        assert got.encode(text) == written
        assert got.decode(written) == text
        special = tokenizer.encode(text, allow_special=True)
        assert got.encode(text, allow_special=True) == special
    for fact in ("eos_id", "pad_id", "bos_id", "vocab_size", "special_ids", "kind", "lossless"):
        assert getattr(got, fact) == getattr(tokenizer, fact), fact
    assert got.pre == tokenizer.pre


def test_tokens_added_to_a_vocabulary_keep_their_ids(write_gguf, tmp_path: Path) -> None:
    base = with_pattern(GPT2_PATTERN)
    base.save(tmp_path)
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.add_special_tokens(["<|user|>"])
    backend.add_tokens([tokenizers.AddedToken("TODO", normalized=False)])
    tokenizer = Tokenizer(backend)
    got = opened(write_gguf(make_model(), tokenizer=tokenizer)).tokenizer
    for text in ("<|user|>TODO: a", "xTODOx", "T ODO"):
        for allow in (False, True):
            assert got.encode(text, allow) == tokenizer.encode(text, allow)
    assert got.special_ids == tokenizer.special_ids and got.added_ids == tokenizer.added_ids


@pytest.mark.parametrize(
    ("key", "wrong", "problem"),
    [
        ("tokenizer.ggml.model", None, "contains no tokenizer"),
        ("tokenizer.ggml.model", value("llama", STRING), "has the type 'llama'"),
        ("tokenizer.ggml.pre", None, "has no split pattern"),
        (
            "tokenizer.ggml.pre",
            value("deepseek-llm", STRING),
            "use `trainer serve`",
        ),
        ("tokenizer.ggml.tokens", None, "has no list tokenizer.ggml.tokens"),
        ("tokenizer.ggml.merges", None, "has no list tokenizer.ggml.merges"),
        (
            "tokenizer.ggml.tokens",
            value(["a", "a"], LIST, sub_type=STRING),
            "another number of token types",
        ),
        ("tokenizer.ggml.merges", value(["zz q"], LIST, sub_type=STRING), "has the merge 'zz q'"),
        ("tokenizer.ggml.eos_token_id", value(999), "has eos_token_id 999, but its tokens are 0"),
        ("tokenizer.ggml.eos_token_id", value(-1, GGUFValueType.INT32), "has eos_token_id -1"),
    ],
)
def test_a_tokenizer_that_would_split_otherwise_is_refused(
    key: str, wrong: GGUFValue | None, problem: str, write_gguf, bpe: Tokenizer
) -> None:
    def change(keys: dict[str, Any], _: list[StoredTensor]) -> None:
        keys.pop(key) if wrong is None else keys.update({key: wrong})

    path = write_gguf(make_model(), change=change)
    assert problem in refused(path)
    bpe.save(path.parent / "tokenizer")
    assert opened(path, tokenizer=path.parent / "tokenizer").tokenizer.encode("a") == bpe.encode(
        "a"
    )


def test_a_tokenizer_larger_than_the_model_is_refused(write_gguf, chars: Tokenizer) -> None:
    model = make_model()
    small = make_model(vocab_size=258)
    chars_path = write_gguf(small, tokenizer=chars)
    assert opened(chars_path).tokenizer.vocab_size == 258

    def change(keys: dict[str, Any], tensors: list[StoredTensor]) -> None:
        embedding = model.state_dict()["model.embed_tokens.weight"].numpy()[:200]
        tensors[0] = StoredTensor("token_embd.weight", (200, 64), "F32", lambda: embedding)
        keys["llama.vocab_size"] = value(200)

    path = write_gguf(model, change=change)
    assert "tokens, the model 200: it belongs to another model" in refused(path)


@pytest.mark.parametrize(
    ("pattern", "told", "begins"),
    [
        (GPT2_PATTERN, None, False),
        (GPT2_PATTERN, False, False),
        (GPT2_PATTERN, True, True),
        (LLAMA3_PATTERN, None, True),
        (LLAMA3_PATTERN, False, False),
    ],
)
def test_a_text_begins_as_in_llama_cpp(
    pattern: str, told: bool | None, begins: bool, write_gguf
) -> None:
    key = "tokenizer.ggml.add_bos_token"

    def change(keys: dict[str, Any], _: list[StoredTensor]) -> None:
        keys.pop(key)
        keys |= {} if told is None else {key: value(told, GGUFValueType.BOOL)}

    path = write_gguf(make_model(), tokenizer=with_pattern(pattern), change=change)
    tokenizer = opened(path).tokenizer
    assert tokenizer.begin_ids == ([tokenizer.bos_id] if begins else [])
