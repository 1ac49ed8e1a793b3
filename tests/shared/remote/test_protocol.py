"""Frames: what is cut, flipped or too large is refused, without a crash and without waiting."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.remote.protocol import (
    MAX_BODY,
    ProtocolError,
    common_version,
    encode_frame,
    read_frame,
)

HEADS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=9), max_size=4)


def reader(data: bytes):
    source = io.BytesIO(data)

    def read(size: int) -> bytes:
        assert size <= 16 << 20, "more is awaited than a frame may have"
        found = source.read(size)
        if len(found) < size:
            raise EOFError
        return found

    return read


@given(HEADS, st.binary(max_size=2000))
def test_a_frame_comes_back_as_it_was(head, body):
    assert read_frame(reader(encode_frame(head, body))) == (head, body)


@given(HEADS, st.binary(max_size=600), st.data())
def test_a_cut_or_flipped_frame_is_refused(head, body, data):
    frame = encode_frame(head, body * 2)
    at = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(EOFError):
        read_frame(reader(frame[:at]))
    flipped = bytearray(frame)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((ProtocolError, EOFError)):
        read_frame(reader(bytes(flipped)))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises((ProtocolError, EOFError)):
        read_frame(reader(data))


def test_a_frame_is_bounded_also_once_unpacked():
    with pytest.raises(ProtocolError):
        encode_frame({}, b"x" * (MAX_BODY + 1))
    with pytest.raises(ProtocolError):
        read_frame(reader(b"TMF1\x00" + b"\xff" * 12 + b"x" * 100))


@pytest.mark.parametrize("theirs", [None, [], [99], ["1"], {"a": 1}])
def test_without_a_common_version_nothing_is_said(theirs):
    with pytest.raises(ProtocolError, match="install the same"):
        common_version(theirs)
