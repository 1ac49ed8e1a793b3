"""What is scored, and how many bytes of text that is."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from shared.errors import UserError
from tests.trainer.evaluate.conftest import TEXT
from trainer.data.prepare import PrepareSettings, prepare
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import open_tokens
from trainer.evaluate.datasets import held_back, open_data, trained_apart


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder whose tokens are pieces of words."""
    folder = tmp_path_factory.mktemp("bpe")
    (folder / "text").mkdir()
    for i in range(20):
        (folder / "text" / f"{i}.py").write_text(TEXT.replace("x", f"x{i}") * (i + 1))
    prepare(
        PrepareSettings(
            inputs=[str(folder / "text")], output=str(folder), vocab_size=300, val_split=0.3
        )
    )
    return folder


@pytest.fixture(scope="module")
def tokenizer(bpe: Path) -> Tokenizer:
    return Tokenizer.load(bpe)


def test_a_token_file_has_the_bytes_of_its_text(bpe: Path, tokenizer: Tokenizer) -> None:
    tokens = open_tokens(bpe / "val.bin")
    assert tokens.sidecar is not None
    (data,) = open_data([str(bpe / "val.bin")], tokenizer, 300)
    (file,) = data.files
    given = len(tokenizer.decode_bytes([int(tokens.tokens[0])], skip_special=True))
    assert (data.kind, data.split, data.name) == ("tokens", "validation", "val.bin")
    assert data.tokens == tokens.count - 1
    assert file.bytes == tokens.sidecar.text_bytes - given
    assert data.sha256 == hashlib.sha256((bpe / "val.bin").read_bytes()).hexdigest()


def test_a_prepared_folder_means_what_was_held_back(bpe: Path, tokenizer: Tokenizer) -> None:
    (by_folder,) = open_data([str(bpe)], tokenizer, 300)
    assert by_folder.name == "val.bin"
    of_run = held_back({"data": {"dataset": "tokens", "path": str(bpe)}}, tokenizer, 300)
    named = held_back({"data": {"val_path": str(bpe / "val.bin")}}, tokenizer, 300)
    assert by_folder.sha256 == of_run.sha256 == named.sha256


def test_documents_that_were_apart_in_training_are_scored_apart(
    bpe: Path, tokenizer: Tokenizer
) -> None:
    tokens = np.asarray(open_tokens(bpe / "val.bin").tokens)
    config = {"data": {"path": str(bpe)}, "train": {"document_mask": True}}
    data = held_back(config, tokenizer, 300)
    (file,) = data.files
    pieces = [piece for piece, _ in file.sequences]
    assert np.array_equal(np.concatenate(pieces), tokens)
    assert all((piece[:-1] != tokenizer.eos_id).all() for piece in pieces)
    assert data.tokens == len(tokens) - len(pieces)
    scored = np.concatenate([piece[1:] for piece in pieces])
    assert file.bytes == len(tokenizer.decode_bytes(scored.tolist(), skip_special=True))
    (named,) = open_data([str(bpe / "val.bin")], tokenizer, 300, apart=trained_apart(config))
    assert named.files[0].document_end == file.document_end
    assert (named.tokens, named.files[0].bytes) == (data.tokens, file.bytes)


def test_documents_of_texts_are_scored_apart_too(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one two"}\n{"text": "three four"}\n')
    (data,) = open_data([str(tmp_path)], tokenizer, 300, apart=True)
    ends = [piece[-1] for piece, _ in data.files[0].sequences]
    assert ends == [tokenizer.eos_id] * 3  # the first is what precedes all texts
    longer = sum(len(tokenizer.encode(text)) for text in ("one two", "three four"))
    assert data.tokens == longer  # all but the first of each, and its end


def test_text_is_scored_whole(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress((TEXT * 2).encode()))
    (tmp_path / "empty.txt").write_text("")
    (data,) = open_data([str(tmp_path)], tokenizer, 300)
    assert [file.name for file in data.files] == ["a.txt", "b.txt.gz"]
    assert [file.bytes for file in data.files] == [len(TEXT.encode()), 2 * len(TEXT.encode())]
    end = tokenizer.eos_id
    assert data.files[0].tokens.tolist() == [end, *tokenizer.encode(TEXT), end]
    assert data.notes == ("1 empty document skipped",)


def test_documents_of_a_file_follow_each_other(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    (data,) = open_data([str(path)], tokenizer, 300)
    end = tokenizer.eos_id
    expected = [end, *tokenizer.encode("one"), end, *tokenizer.encode("two"), end]
    assert data.files[0].tokens.tolist() == expected
    assert data.files[0].bytes == 6


@pytest.mark.parametrize("limit", [1, 7, 10_000])
def test_the_beginning_of_a_file_has_the_bytes_of_the_beginning(
    tmp_path: Path, bpe: Path, tokenizer: Tokenizer, limit: int
) -> None:
    (tmp_path / "a.txt").write_text(TEXT * 50)
    for data in open_data([str(tmp_path / "a.txt"), str(bpe / "val.bin")], tokenizer, 300, limit):
        (file,) = data.files
        assert len(file.tokens) - 1 <= limit
        assert file.bytes == len(tokenizer.decode_bytes(file.tokens[1:], skip_special=True))
        assert data.max_tokens == limit


def test_a_file_begins_as_the_tokenizer_begins_texts(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    backend = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="a $A", special_tokens=[("a", 7)]
    )
    ours, theirs = (
        open_data([str(tmp_path / "a.txt")], codec, 300)[0].files[0].tokens.tolist()
        for codec in (tokenizer, Tokenizer(backend))
    )
    assert (ours[0], theirs[0]) == (tokenizer.eos_id, 7)
    assert ours[1:] == theirs[1:] and theirs[-1] == tokenizer.eos_id


def test_the_same_name_in_two_folders_stays_two(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text(TEXT)
    (data,) = open_data([str(tmp_path)], tokenizer, 300)
    assert [file.name for file in data.files] == ["one/__init__.py", "two/__init__.py"]


def test_a_model_padded_past_its_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "odd.bin"
    np.array([70, 71, 310], dtype="<u4").tofile(path)
    (data,) = open_data([str(path)], tokenizer, 320)
    assert data.files[0].bytes == len(tokenizer.decode_bytes([71]))


def test_what_cannot_be_scored_is_told(tmp_path: Path, bpe: Path, tokenizer: Tokenizer) -> None:
    one = tmp_path / "one.bin"
    np.array([1], dtype="<u4").tofile(one)
    (tmp_path / "empty.txt").write_text("")
    ascii_only = tmp_path / "ascii"
    prepare(
        PrepareSettings(
            inputs=[str(bpe / "text" / "1.py")],
            output=str(ascii_only),
            kind="char",
            charset="ascii",
            replace=True,
        )
    )
    restricted = Tokenizer.load(ascii_only)
    cases = [
        (lambda: open_data([str(one)], tokenizer, 300), "has 1 token; scoring needs two"),
        (lambda: open_data([str(tmp_path / "empty.txt")], tokenizer, 300), "There is no text in"),
        (lambda: open_data([str(tmp_path / "nope.txt")], tokenizer, 300), "does not exist"),
        (lambda: open_data([str(bpe / "val.bin")], restricted, 300), "was made with tokenizer"),
        (lambda: open_data([str(bpe / "text")], restricted, 300), "outside the character set"),
        (lambda: held_back({}, tokenizer, 300), "does not name its validation data"),
        (lambda: held_back({"data": {"dataset": "synthetic"}}, tokenizer, 300), "Synthetic data"),
        (lambda: held_back({"data": {"path": "/nowhere"}}, tokenizer, 300), "no validation data"),
        (lambda: held_back({"data": [1]}, tokenizer, 300), "does not name"),
    ]
    for attempt, told in cases:
        with pytest.raises(UserError, match=told):
            attempt()
