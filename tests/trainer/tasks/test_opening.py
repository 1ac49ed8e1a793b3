"""A task's text in tokens: as in a text that goes on."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from trainer.data.byte_level import GPT2_PATTERN, byte_level_backend
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer
from trainer.tasks.opening import open_answer

HEAD = "/// Twice.\npub fn twice(x: i32) -> i32 {"
BODY = "\n    x = 1;\n    2 * x\n}\n"


@pytest.fixture(scope="module")
def joining() -> Tokenizer:
    """A tokenizer that joins symbols with the end of their line."""
    return train_tokenizer([(HEAD + BODY) * 30], vocab_size=300)


@pytest.mark.parametrize("text", [HEAD, "def f(x):", "impl<T> Queue<T> {", "fn f(s: &str) {"])
def test_the_ids_begin_the_text_that_goes_on(joining: Tokenizer, text: str) -> None:
    ids, given = open_answer(text, joining)
    assert joining.decode(ids) == text + given
    assert joining.encode_prompt(text + BODY)[: len(ids)] == ids


def test_what_a_token_joins_belongs_to_the_answer(joining: Tokenizer) -> None:
    ids, given = open_answer(HEAD, joining)
    assert given == "\n" and joining.decode(ids[-1:]) == " {\n"
    assert joining.encode_prompt(HEAD)[-1] != ids[-1], "alone it is another token"


@pytest.mark.parametrize("text", [HEAD + "\n", "", "let x", "naïve ½ 😀"])
def test_other_texts_stay_as_they_are(joining: Tokenizer, text: str) -> None:
    assert open_answer(text, joining) == (joining.encode_prompt(text), "")


def test_bytes_join_nothing() -> None:
    codec = train_tokenizer([], kind="char")
    assert open_answer(HEAD, codec) == (codec.encode_prompt(HEAD), "")


def test_a_newline_that_belongs_to_the_indentation_is_left_to_the_answer() -> None:
    backend = byte_level_backend(models.BPE(), GPT2_PATTERN)
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator([(HEAD + BODY) * 30], trainer)
    codec = Backend(backend)
    ids, given = open_answer(HEAD + "\n", codec)
    assert (backend.decode(ids), given) == (HEAD, "")
    assert codec.encode_prompt(HEAD + BODY)[: len(ids)] == ids


class Backend:
    """A tokenizer of the library as a codec."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend

    def encode_prompt(self, text: str) -> list[int]:
        return list(self._backend.encode(text).ids)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        return str(self._backend.decode(list(ids))).encode()
