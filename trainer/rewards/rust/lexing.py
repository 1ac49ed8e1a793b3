"""Rust as a row of tokens: where braces stand that are neither in a comment nor in a string.

A regular expression suffices for all but block comments, which nest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<line>//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>(?<![A-Za-z0-9_])[bc]?r(?P<hashes>\#*)"(?:.*?"(?P=hashes)|(?P<raw_open>.*)))
  | (?P<string>(?:(?<![A-Za-z0-9_])[bc])?"(?:[^"\\]|\\.)*(?:"|(?P<string_open>\\?\Z)))
  | (?P<char>(?:(?<![A-Za-z0-9_])b)?'(?:[^'\\\n]|\\(?:x[0-9A-Fa-f]{0,2}|u\{[0-9A-Fa-f_]*\}|.))')
  | (?P<word>(?:r\#)?[^\W\d]\w*|'\w+)
  | (?P<number>\d[\w]*(?:\.\d\w*)?)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL,
)
#: Only what matters for braces; words and the like are passed over.
_EDGE = re.compile(
    r"""
    (?P<line>//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>(?<![A-Za-z0-9_])[bc]?r(?P<hashes>\#*)"(?:.*?"(?P=hashes)|.*))
  | (?P<string>"(?:[^"\\]|\\.)*(?:"|\\?\Z))
  | (?P<char>'(?:[^'\\\n]|\\(?:x[0-9A-Fa-f]{0,2}|u\{[0-9A-Fa-f_]*\}|.))')
  | (?P<brace>[{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_CLOSES = {"}": "{", ")": "(", "]": "["}


class Token(NamedTuple):
    """A token with its place in the text. `open` if the text ended inside it."""

    kind: str  # space, comment, string, char, word, number, sign
    start: int
    end: int
    open: bool = False


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, white space and comments included. Any text has some."""
    place = 0
    while match := _TOKEN.match(text, place):
        start, kind, is_open = place, str(match.lastgroup), False
        place = match.end()
        if match["line"] is not None:
            kind, is_open = "comment", place == len(text)
        elif match["block"] is not None:
            end = _end_of_comment(text, place)
            kind, is_open, place = "comment", end is None, len(text) if end is None else end
        elif match["raw"] is not None:
            kind, is_open = "string", match["raw_open"] is not None
        elif match["string"] is not None:
            kind, is_open = "string", match["string_open"] is not None
        yield Token(kind, start, place, is_open)


def _end_of_comment(text: str, place: int) -> int | None:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, place):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return None


class Nesting(NamedTuple):
    """Delimiters of a text: those open at its end, outermost first, and the deepest nesting."""

    open: str
    deepest: int


def nesting(text: str, of: Iterable[Token]) -> Nesting:
    """What is open at the end of a text, and how deep it gets. `of` are its tokens.

    A closing delimiter without its partner is ignored.
    """
    stack: list[str] = []
    deepest = 0
    for token in of:
        if token.kind != "sign":
            continue
        sign = text[token.start]
        if sign in "{([":
            stack.append(sign)
            deepest = max(deepest, len(stack))
        elif sign in _CLOSES and stack and stack[-1] == _CLOSES[sign]:
            stack.pop()
    return Nesting("".join(stack), deepest)


def braces(text: str) -> Iterator[int]:
    """The places of the braces of a text that are neither in a comment nor in a string."""
    place = 0
    while match := _EDGE.search(text, place):
        place = match.end()
        if match.lastgroup == "brace":
            yield match.start()
        elif match.lastgroup == "block":
            end = _end_of_comment(text, place)
            if end is None:
                return
            place = end


def open_braces(text: str) -> int:
    """How many braces a text leaves open; negative if it closes more than it opens."""
    return sum(1 if text[place] == "{" else -1 for place in braces(text))


def closing_brace(text: str, start: int, depth: int) -> int | None:
    """The place behind the brace of `text[start:]` with which `depth` open braces become none.

    None if the text ends before.
    """
    if "}" not in text[start:]:
        return None
    for place in braces(text):
        if place >= start:
            depth += 1 if text[place] == "{" else -1
            if text[place] == "}" and depth <= 0:
                return place + 1
    return None
