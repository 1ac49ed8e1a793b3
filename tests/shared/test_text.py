"""Text made safe to show, and numbers with units."""

from __future__ import annotations

import math
import sys
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.text import (
    format_bytes,
    format_count,
    format_duration,
    format_time,
    many_lines,
    nearest,
    one_line,
    plural,
)

EVERY_CHARACTER = "".join(map(chr, range(sys.maxunicode + 1)))
INVISIBLE = "\xad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\U000e0001\U000e0041"

HOSTILE = st.text(st.characters() | st.sampled_from("\r\n\t\x1b\u202e"))


@pytest.fixture(scope="module")
def unsafe() -> set[str]:
    """Controls, line ends, lone surrogates, characters that turn the direction, invisible ones."""
    categories = {"Cc", "Cs", "Zl", "Zp"}
    directions = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return set(INVISIBLE) | {
        c
        for c in EVERY_CHARACTER
        if unicodedata.category(c) in categories or unicodedata.bidirectional(c) in directions
    }


def test_no_unsafe_character_of_all_unicode_is_left(unsafe: set[str]) -> None:
    text = EVERY_CHARACTER
    assert not unsafe & set(one_line(text, len(text)))
    kept = set(many_lines(text))
    assert kept & unsafe == {"\n", "\t"}
    assert {"a", "é", "漢", "🚀", " ", "\u0301"} <= kept


@settings(max_examples=300, deadline=None)
@given(text=HOSTILE, limit=st.integers(1, 50))
def test_one_line_is_one_short_safe_line(unsafe: set[str], text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert not set(line) & unsafe
    assert len(line.splitlines()) <= 1
    assert one_line(line, limit) == line
    line.encode()


@settings(max_examples=300, deadline=None)
@given(text=HOSTILE)
def test_many_lines_keeps_lines_and_nothing_unsafe(unsafe: set[str], text: str) -> None:
    safe = many_lines(text)
    assert not set(safe) & (unsafe - {"\n", "\t"})
    assert safe.count("\n") == text.count("\n")
    assert many_lines(safe) == safe


def test_examples() -> None:
    assert one_line("a\r\nb\tc\x1b[31m") == "a b c[31m"
    assert one_line("x" * 300) == "x" * 199 + "…"
    assert one_line(None) == "None"
    assert many_lines("a\r\nb\x1b\tc") == "a\nb\tc"
    assert nearest("learning_rat", ["learning_rate", "seed"]) == " (did you mean learning_rate?)"
    assert nearest("zzz", ["seed"]) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_bytes(0), "0 B"),
        (format_bytes(1536), "1.5 KiB"),
        (format_bytes(3 << 40), "3.0 TiB"),
        (format_count(999), "999"),
        (format_count(25_580_000), "25.58M"),
        (format_count(1e12), "1T"),
        (format_duration(None), "-"),
        (format_duration(math.nan), "-"),
        (format_duration(math.inf), "-"),
        (format_duration(-1), "-"),
        (format_duration(42.4), "42s"),
        (format_duration(59.6), "1m"),
        (format_duration(961), "16m01s"),
        (format_duration(7_200), "2h"),
        (format_duration(172_800), "2d"),
        (plural(1, "batch", "es"), "1 batch"),
        (plural(2_000, "batch", "es"), "2,000 batches"),
        (format_duration(11_220), "3h07m"),
        (format_duration(200_000), "2d07h"),
        (format_time(None), "-"),
        (format_time(1e300), "-"),
        (format_time(math.nan), "-"),
        (format_time(86_400 * 3, "%Y-%m"), "1970-01"),
    ],
)
def test_numbers_with_units(text: str, expected: str) -> None:
    assert text == expected
