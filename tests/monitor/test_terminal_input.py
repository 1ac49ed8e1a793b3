"""Any bytes on the terminal: they become keys, clicks and pastes, or nothing; never an error."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from textual import events
from textual.message import Message

from monitor.terminal_input import Decoder, TerminalInput
from tests.monitor.support import metric_lines, write_run
from tests.monitor.test_terminal import ALT_SCREEN_OFF, Terminal

#: Beginnings of what a parser of terminal input looks for, so that random bytes reach its depths.
PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([
        b"\x1b", b"\x1b[", b"\x1b[M", b"\x1b[<", b"\x1b[<0;", b"\x1b[48;", b"\x1b[200~",
        b"\x1b[201~", b"\x1bO", b"\x1b[99999999999;5u", b"\x1b[1;2;1:2u", b"\x1b[55296;;55296u",
        b"\x1b[48;9999;9999;1;1t", b"\x1b[?2048;1$y", b"\x1b[?2026;2$y", b"\x1b[0;0R",
        b"\x1b[<0;99999999999999999999;1M", b"\x1b]0;x\x07", b"\x1b[M\x20\xff\xff", b"\xff\xfe",
        b"\xc3", b"\xed\xa0\x80", b"\x9b31m", b"\x00",
    ]),
)  # fmt: skip
BYTES = st.lists(PIECES, max_size=12).map(b"".join)


def messages(*pieces: bytes) -> list[Message]:
    source = TerminalInput()
    found = [message for piece in pieces for message in source.feed(piece)]
    source.close()
    return found


@given(BYTES, st.lists(st.integers(0, 120), max_size=4))
def test_any_bytes_in_any_pieces_are_one_text(data: bytes, cuts: list[int]) -> None:
    whole = Decoder().feed(data)
    ends = [*sorted(cut for cut in cuts if cut < len(data)), len(data)]
    decoder = Decoder()
    pieces = [decoder.feed(data[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    assert "".join(pieces) == whole


@given(BYTES)
def test_no_bytes_raise_and_nothing_unsafe_reaches_a_widget(data: bytes) -> None:
    for message in messages(data):
        assert not isinstance(message, events.Resize)
        if isinstance(message, events.Paste):
            assert "\x1b" not in message.text
        if isinstance(message, events.Key) and message.character:
            message.character.encode()


@given(BYTES)
@example(b"\x1b[200~\x1b[M")
def test_after_any_bytes_a_key_is_a_key_again(data: bytes) -> None:
    source = TerminalInput()
    list(source.feed(data))
    list(source.feed(b"\x1b[201~" + b"z" * 40))  # ends whatever was open
    keys = [m for m in source.feed(b"k") if isinstance(m, events.Key)]
    assert [key.key for key in keys] == ["k"]


@pytest.mark.parametrize("column", [1, 95, 96, 128, 200, 223])
def test_a_click_in_the_old_encoding_at_any_column(column: int) -> None:
    press, release = (b"\x1b[M" + bytes((32 + b, 32 + column, 32 + 7)) for b in (0, 3))
    down, up = messages(press + release)
    assert isinstance(down, events.MouseDown)
    assert isinstance(up, events.MouseUp)
    assert (down.x, down.y, down.button) == (column - 1, 6, 1)
    (turned,) = messages(b"\x1b[M" + bytes((32 + 64, 32 + column, 32 + 7)))
    assert isinstance(turned, events.MouseScrollUp)


def test_text_around_what_is_not_utf_8_is_kept() -> None:
    data = "aé".encode() + b"\xe9\xff" + "b漢".encode()
    typed = [m.character for m in messages(data[:7], data[7:]) if isinstance(m, events.Key)]
    assert typed == ["a", "é", "\ufffd", "\ufffd", "b", "漢"]


def test_bytes_on_the_terminal_never_end_the_app(tmp_path: Path) -> None:
    """One process is sent all kinds of bytes but the keys that quit or suspend."""
    write_run(tmp_path, "first", {"status": "completed"}, metric_lines(20))
    terminal = Terminal("--runs-dir", str(tmp_path))
    rejected = bytes(b for b in range(256) if b not in b"q\x03\x11\x1a\x1b\r\x10")
    kinds = [
        b"\x1b[M" + bytes((32, 32 + 120, 40)) + b"\x1b[M" + bytes((35, 255, 255)),
        rejected * 3,
        b"\x1b[48;9999;9999;0;0t\x1b[?2048;1$y",
        b"\x1b[99999999999;5u\x1b[1;2;1:2u\x1b[55296;;55296u",
        b"\x1b[<0;99999999999999999999;1M\x1b[<0;99999999999999999999;1m",
        b"/\xff\xfe\xed\xa0\x80\x1b[200~\x1b]0;owned\x07\xff\x1b[201~",
    ]
    try:
        terminal.read_until(b"completed")
        for data in kinds:
            os.write(terminal.master, data)
            os.write(terminal.master, b"\x1b")
            terminal.read_for(0.3)
            os.write(terminal.master, b"\x1b")
            terminal.read_for(0.3)
            assert terminal.process.poll() is None, (data, terminal.output[-2000:])
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == 128 + signal.SIGTERM
        assert b"\x1b]0;owned" not in terminal.output
        assert b"Traceback" not in terminal.output.rpartition(ALT_SCREEN_OFF)[2]
    finally:
        terminal.close()
