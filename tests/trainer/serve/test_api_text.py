"""Tokens to text: whole characters, stop strings in any number of pieces, places of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.generate.batched.job import TokenScore
from trainer.serve.text_stream import Piece, TextStream


class Bytes:
    """A codec whose tokens are one to three bytes; token 0 is special."""

    vocab_size = 1 << 24
    eos_id = 0

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """One token a byte."""
        return [self.token(bytes([byte])) for byte in text.encode()]

    def decode_bytes(self, ids, skip_special: bool = False) -> bytes:  # type: ignore[no-untyped-def]
        """The bytes behind a leading 1."""
        return b"".join(
            number.to_bytes(4).lstrip(b"\0")[1:] if number else (b"" if skip_special else b"<end>")
            for number in ids
        )

    @staticmethod
    def token(part: bytes) -> int:
        """The id of these bytes."""
        return int.from_bytes(b"\1" + part)


def fed(parts: list[bytes], stops: tuple[str, ...] = ()) -> tuple[TextStream, list[Piece]]:
    """What comes out token by token, and at the end."""
    stream, pieces = TextStream(Bytes(), stops), []
    for part in parts:
        pieces.append(stream.feed(TokenScore(Bytes.token(part))))
        if stream.stopped:
            return stream, pieces
    return stream, [*pieces, stream.finish()]


def cut(text: str, sizes: list[int]) -> list[bytes]:
    """The bytes of `text` in pieces of 1 to 3."""
    raw, parts = text.encode(), []
    for size in sizes * (len(raw) + 1):
        if not raw:
            break
        parts.append(raw[:size])
        raw = raw[size:]
    return parts


SIZES = st.lists(st.integers(1, 3), min_size=1, max_size=5)


@given(st.text(alphabet="ab€😀\n", max_size=30), SIZES)
def test_any_cutting_gives_the_text_in_whole_characters(text: str, sizes: list[int]) -> None:
    _, pieces = fed(cut(text, sizes))
    assert "".join(piece.text for piece in pieces) == text
    assert not any("\ufffd" in piece.text for piece in pieces)
    assert sum(len(piece.tokens) for piece in pieces) == len(cut(text, sizes))


@given(
    st.text(alphabet="ab€", max_size=20),
    SIZES,
    st.lists(st.text(alphabet="ab€", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_text_ends_before_the_first_stop_and_no_part_of_it_was_out(text, sizes, stops) -> None:
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    stream, pieces = fed(cut(text, sizes), tuple(stops))
    out = "".join(piece.text for piece in pieces)
    assert stream.stopped == bool(places)
    if places:
        assert any(text.startswith(out + stop) for stop in stops)
    else:
        assert out == text
    released = ""
    for piece in pieces:
        released += piece.text
        assert out.startswith(released)


def test_the_beginning_of_a_stop_is_held_back_until_it_is_none() -> None:
    _, pieces = fed([b"a", b"\n", b"Us", b"e", b"ful"], ("\nUser:", "zzz"))
    assert [piece.text for piece in pieces] == ["a", "", "", "", "\nUseful", ""]
    assert [len(piece.tokens) for piece in pieces] == [1, 0, 0, 0, 4, 0]


def test_a_token_with_a_stop_in_it_counts_and_what_follows_does_not() -> None:
    stream, pieces = fed([b"ab", b"cde", b"f"], ("d",))
    assert stream.stopped
    assert [piece.text for piece in pieces] == ["ab", "c"]
    assert [len(piece.tokens) for piece in pieces] == [1, 1]


def test_a_character_that_never_gets_whole() -> None:
    _, pieces = fed([b"a", b"\xe2", b"\x82"])
    assert [piece.text for piece in pieces] == ["a", "", "", "\ufffd"]
    assert [len(piece.tokens) for piece in pieces] == [1, 0, 0, 2]


def test_places_of_tokens_are_those_of_their_characters() -> None:
    _, pieces = fed([b"a", b"\xe2\x82", b"\xac", b"bc", b"d"])
    assert [token.offset for piece in pieces for token in piece.tokens] == [0, 1, 1, 2, 4]


def test_an_echo_spells_special_tokens_out_and_stops_nowhere() -> None:
    stream = TextStream(Bytes(), ("x",))
    echo = stream.echo([TokenScore(0), TokenScore(Bytes.token(b"xy"))])
    assert echo.text == "<end>xy"
    assert [token.offset for token in echo.tokens] == [0, 5]
    assert stream.feed(TokenScore(0)).text == ""
    assert stream.feed(TokenScore(Bytes.token(b"z"))).text == "z"
    assert not stream.stopped


@pytest.mark.parametrize("stops", [(), ("",)])
def test_without_stops_nothing_is_held_back(stops: tuple[str, ...]) -> None:
    _, pieces = fed([b"a", b"b"], stops)
    assert [piece.text for piece in pieces] == ["a", "b", ""]
