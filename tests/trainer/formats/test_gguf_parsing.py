"""Damaged and hostile GGUF files: a sentence at once, whatever they claim."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from tests.trainer.formats.conftest import gguf_writer, make_model, opened, refused
from trainer.data.tokenizer import Tokenizer
from trainer.formats.gguf_parsing import open_gguf


def header(tensors: int, keys: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + rest


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return string(name) + struct.pack("<I", kind) + value


def texts(count: int, rest: bytes = b"") -> bytes:
    return struct.pack("<IQ", 8, count) + rest


def tensor(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    numbers = struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return string(name) + numbers


def space(size: int = 999) -> bytes:
    return bytes(size)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "does not begin with GGUF"),
        (b"GGUF", "does not begin with GGUF"),
        (b"GGUF\x03\0\0\0", "ends in the middle of its header"),
        (b"junk" * 100, "does not begin with GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "is GGUF of version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "is big-endian"),
        (header(2**63, 0), "says that it has 9223372036854775808 tensors"),
        (header(0, 2**63), "and 9223372036854775808 keys"),
        (header(2**20, 0), "ends in the middle"),
        (header(0, 2**16), "ends in the middle"),
        (header(0, 1, struct.pack("<Q", 2**63) + b"x"), "a text of 9223372036854775808 bytes"),
        (header(0, 1, key(b"k", 99, b"")), "a value of the unknown type 99"),
        (header(0, 1, key(b"k", 8, struct.pack("<Q", 2**62))), "a text of 4611686018427387904"),
        (header(0, 1, key(b"k", 9, texts(2**62))), "a list of 4611686018427387904 texts"),
        (header(0, 1, key(b"k", 9, texts(2**22 + 1, space()))), "a list of 4194305 texts"),
        (header(0, 1, key(b"k", 9, texts(2**20, space(64)))), "ends in the middle"),
        (
            header(0, 1, key(b"k", 9, struct.pack("<IQ", 4, 2**62))),
            "a list of 46116860184",
        ),
        (header(0, 1, key(b"k", 9, struct.pack("<IQ", 9, 2))), "a list of the unknown type 9"),
        (header(0, 2, 2 * key(b"k", 0, b"\1")), "has the key k twice"),
        (header(0, 1, key(b"general.alignment", 4, bytes(4))), "has the alignment 0"),
        (header(0, 1, key(b"general.alignment", 4, b"\x30\0\0\0")), "has the alignment 48"),
        (header(0, 1, key(b"general.alignment", 7, b"\1")), "has the alignment True"),
        (header(1, 0, string(b"t") + struct.pack("<I", 2**31)), "2147483648 dimensions"),
        (header(1, 0, tensor(b"t", (0,), 0, 0)), "the shape 0, which F32 cannot have"),
        (header(1, 0, tensor(b"t", (2**40, 2**40), 0, 0)), "and the tensor t at"),
        (header(1, 0, tensor(b"t", (4,), 0, 2**63)), "and the tensor t at"),
        (header(1, 0, tensor(b"t", (4,), 0, 2) + space()), "the tensor t at the wrong place"),
        (header(1, 0, tensor(b"t", (31,), 2, 0) + space()), "31, which Q4_0 cannot have"),
        (header(1, 0, tensor(b"t", (4,), 77, 0) + space()), "the type number 77, which is not"),
        (
            header(2, 0, tensor(b"t", (8,), 0, 0) + tensor(b"t", (8,), 0, 32) + space()),
            "has the tensor t twice",
        ),
        (
            header(2, 0, tensor(b"t", (16,), 0, 0) + tensor(b"u", (8,), 0, 32) + space()),
            "has the tensor u at the wrong place",
        ),
    ],
)
def test_damaged_files_are_told_at_once(data: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.gguf"
    path.write_bytes(data)
    assert problem in refused(path)


@pytest.fixture(scope="module")
def sound_bytes(tmp_path_factory: pytest.TempPathFactory, chars: Tokenizer) -> bytes:
    write = gguf_writer(tmp_path_factory.mktemp("sound"), chars)
    return write(make_model(num_layers=1, hidden_size=32)).read_bytes()


def test_every_truncation_is_refused(sound_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    length = len(sound_bytes.rstrip(b"\0"))
    for cut in {*range(0, 200, 3), *range(200, length, length // 150), length - 1}:
        path.write_bytes(sound_bytes[:cut])
        refused(path)


def test_no_flipped_bit_does_more_than_be_refused(sound_bytes: bytes, tmp_path: Path) -> None:
    """In the keys and names; a bit of the weights is another weight."""
    path = tmp_path / "flipped.gguf"
    rng = random.Random(0)
    begin = sound_bytes.index(b"blk.0")
    places = [rng.randrange(24, 1200) for _ in range(150)]
    places += [rng.randrange(begin - 300, begin + 900) for _ in range(150)]
    for place in places:
        flipped = bytearray(sound_bytes)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            opened(path)
        except UserError as error:
            assert str(error).endswith(".") and "\n" not in str(error), str(error)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400), st.integers(0, 3), st.integers(0, 5))
def test_junk_is_refused(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, tensors: int, keys: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.gguf"
    path.write_bytes(header(tensors, keys, junk))
    refused(path)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    for name in ("none.gguf", "pipe.gguf", "folder.gguf"):
        refused(tmp_path / name)
        with pytest.raises(UserError, match="Cannot read"):
            open_gguf(tmp_path / name)
