"""Which terminals get ASCII."""

from __future__ import annotations

import pytest

from monitor.chart.terminal import needs_ascii, why_unfit


@pytest.mark.parametrize(
    ("encoding", "term", "expected"),
    [
        ("utf-8", "xterm-256color", False),
        ("UTF8", "", False),
        ("utf-8", "linux", True),
        ("ANSI_X3.4-1968", "xterm", True),
        ("latin-1", "xterm", True),
        ("", "xterm", True),
        ("no such encoding", "xterm", True),
    ],
)
def test_braille_is_drawn_only_where_it_is_seen(encoding: str, term: str, expected: bool) -> None:
    assert needs_ascii(encoding, term) == expected


@pytest.mark.parametrize(
    ("term", "moves", "fit"),
    [
        ("xterm-256color", b"\x1b[%i%p1%d;%p2%dH", True),
        ("a-new-terminal", None, True),
        ("dumb", b"", False),
        ("unknown", None, False),
        ("", None, False),
        ("lpr", b"", False),
        ("vt52", b"\x1bY%p1%' '%+%c", False),
    ],
)
def test_which_terminals_can_show_a_screen(term: str, moves: bytes | None, fit: bool) -> None:
    why = why_unfit(term, lambda _: moves)
    assert (why == "") == fit
    if term and not fit:
        assert term in why
