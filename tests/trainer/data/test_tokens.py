from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.data.tokens import (
    CHECK_TOKENS,
    Sidecar,
    open_tokens,
    read_sidecar,
    sidecar_path,
    validation_path,
)

SIDECAR = Sidecar(
    vocab_size=300,
    tokenizer_hash="abc",
    tokenizer_kind="bpe",
    pre="qwen2",
    eos_id=0,
    pad_id=1,
    num_tokens=100,
    num_documents=2,
    text_bytes=345,
    split="train",
    split_rule="documents",
    val_split=0.05,
    seed=0,
)


def write_tokens(path: Path, count: int = 100, dtype: str = "<u4", sidecar: bool = True) -> Path:
    (np.arange(count) % 300).astype(dtype).tofile(path)
    if sidecar:
        SIDECAR.write(path)
    return path


def test_a_token_file_with_its_sidecar(tmp_path: Path) -> None:
    path = write_tokens(tmp_path / "train.bin")
    opened = open_tokens(path, vocab_size=320, tokenizer_hash="abc")
    assert opened.count == 100
    assert opened.vocab_size == 320
    assert opened.sidecar == SIDECAR == read_sidecar(path)
    assert opened.tokens.dtype == np.uint32
    assert opened.tokens.tolist() == [i % 300 for i in range(100)]
    assert opened.tokenizer_path is None
    assert open_tokens(path).vocab_size == 300
    with pytest.raises(ValueError, match="read-only"):
        opened.tokens[0] = 1


def test_directories_links_and_siblings(tmp_path: Path) -> None:
    train = write_tokens(tmp_path / "train.bin")
    (tmp_path / "tokens.bin").symlink_to("train.bin")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert open_tokens(tmp_path).path == train
    opened = open_tokens(tmp_path / "tokens.bin")
    assert opened.sidecar == SIDECAR
    assert opened.tokenizer_path == tmp_path / "tokenizer.json"
    assert validation_path(train) is None
    write_tokens(tmp_path / "val.bin")
    assert validation_path(tmp_path / "tokens.bin") == tmp_path / "val.bin"
    train.unlink()
    (tmp_path / "tokens.bin").unlink()
    write_tokens(tmp_path / "tokens.bin", sidecar=False)
    assert open_tokens(tmp_path, vocab_size=300).sidecar is None


def test_a_file_of_another_program_needs_the_vocabulary(tmp_path: Path) -> None:
    path = write_tokens(tmp_path / "theirs.bin", sidecar=False)
    assert open_tokens(path, vocab_size=300).sidecar is None
    with pytest.raises(UserError, match=r"has no theirs.bin.json beside it"):
        open_tokens(path)


@pytest.mark.parametrize("place", [0, 99, CHECK_TOKENS + 7])
def test_ids_outside_the_vocabulary_are_found(tmp_path: Path, place: int) -> None:
    path = tmp_path / "train.bin"
    tokens = np.ones(max(100, place + 1), dtype="<u4")
    tokens[place] = 300
    tokens.tofile(path)
    with pytest.raises(UserError, match=rf"token {place} is 300, outside the vocabulary of 300"):
        open_tokens(path, vocab_size=300)
    assert open_tokens(path, vocab_size=301).count == len(tokens)


def test_mismatches_with_the_sidecar(tmp_path: Path) -> None:
    path = write_tokens(tmp_path / "train.bin")
    with pytest.raises(UserError, match=r"made with 300 tokens .* the model has 200"):
        open_tokens(path, vocab_size=200)
    with pytest.raises(UserError, match="made with tokenizer abc, not def"):
        open_tokens(path, tokenizer_hash="def")
    (np.arange(99) % 300).astype("<u4").tofile(path)
    with pytest.raises(UserError, match=r"has 99 tokens, but train\.bin\.json says 100"):
        open_tokens(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.bin", None, "does not exist: make one with `trainer prepare-data`"),
        ("empty.bin", b"", "is empty"),
        ("corpus.txt", b"First Citizen:\n", "is text, not tokens"),
        ("corpus.bin", b"First Citizen:\n!", "it looks like text"),
        ("corpus.bin", "Bürger: é\n".encode() * 4, "it looks like text"),
        ("odd.bin", b"\1\0\0\0\2", "5 bytes, which is not a whole number of 4-byte tokens"),
        ("odd.bin", b"\1\0\2\0\3\0", "it looks like 16-bit tokens"),
        ("narrow.bin", np.arange(1, 200, dtype="<u2").tobytes()[:396], "looks like 16-bit tokens"),
        ("noise.bin", b"\xff\xfe\xfd\xfc", "not a file of 32-bit tokens"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_tokens(tmp_path / name, vocab_size=256)


def test_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train.bin, tokens.bin or train.shards.json"):
        open_tokens(tmp_path)


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=64),
    sidecar=st.none()
    | st.binary(max_size=40)
    | st.dictionaries(
        st.sampled_from(list(SIDECAR.__dataclass_fields__)),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
    ),
    suffix=st.sampled_from([".bin", ".txt", ""]),
)
def test_whatever_lies_there_is_opened_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, sidecar, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"x{suffix}"
    path.write_bytes(content)
    if isinstance(sidecar, dict):
        known = {field: getattr(SIDECAR, field) for field in SIDECAR.__dataclass_fields__}
        sidecar_path(path).write_text(json.dumps(known | sidecar))
    elif sidecar is not None:
        sidecar_path(path).write_bytes(sidecar)
    try:
        opened = open_tokens(path, vocab_size=1000)
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert opened.tokens.tobytes() == content
        assert opened.tokens.max() < 1000
