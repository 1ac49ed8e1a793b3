"""Which terminals get ASCII."""

from __future__ import annotations

import pytest

from monitor.chart.terminal import needs_ascii


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
