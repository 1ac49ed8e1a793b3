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


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GGUF",
        b"GGUF\x03\0\0\0",
        b"junk" * 100,
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
        b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        header(2**63, 0),
        header(0, 2**63),
        header(2**20, 0),
        header(0, 1, struct.pack("<Q", 2**63) + b"x"),
        header(0, 1, string(b"k") + struct.pack("<I", 99)),
        header(0, 1, string(b"k") + struct.pack("<IQ", 8, 2**62)),
        header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 8, 2**62)),
        header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 8, 2**20) + bytes(64)),
        header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 4, 2**62)),
        header(0, 1, string(b"k") + struct.pack("<IIQ", 9, 9, 2)),
        header(0, 2, 2 * (string(b"k") + struct.pack("<IB", 0, 1))),
        header(0, 1, string(b"general.alignment") + struct.pack("<II", 4, 0)),
        header(0, 1, string(b"general.alignment") + struct.pack("<II", 4, 48)),
        header(1, 0, string(b"t") + struct.pack("<I", 2**31)),
        header(1, 0, string(b"t") + struct.pack("<IQIQ", 1, 0, 0, 0)),
        header(1, 0, string(b"t") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0)),
        header(1, 0, string(b"t") + struct.pack("<IQIQ", 1, 4, 0, 2**63)),
        header(1, 0, string(b"t") + struct.pack("<IQIQ", 1, 4, 0, 2) + bytes(999)),
        header(1, 0, string(b"t") + struct.pack("<IQIQ", 1, 31, 2, 0) + bytes(999)),
        header(2, 0, 2 * (string(b"t") + struct.pack("<IQIQ", 1, 8, 0, 0)) + bytes(999)),
        header(
            2,
            0,
            string(b"t")
            + struct.pack("<IQIQ", 1, 8, 0, 0)
            + string(b"u")
            + struct.pack("<IQIQ", 1, 8, 0, 0)
            + bytes(999),
        ),
    ],
)
def test_damaged_files_are_told_at_once(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "wrong.gguf"
    path.write_bytes(data)
    refused(path)


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
