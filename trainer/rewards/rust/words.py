"""What an answer must not say, found in its tokens: it holds for what does not parse, too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from trainer.rewards.rust.lexing import Token, nesting, tokens
from trainer.rewards.rust.names import ATTRIBUTES, MACROS, MODULES, ROOTS, WORDS

LONGEST = 64 * 1024  # characters of a completion; a function has a few thousand
DEEPEST = 80  # nested delimiters; rustc's stack ends at some thousand

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_WORD = re.compile(r"[A-Za-z_]")
_INVISIBLE = re.compile("[\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def code_in(text: str) -> Iterator[str]:
    """The tokens of a text without white space and comments."""
    return (text[t.start : t.end] for t in tokens(text) if t.kind not in ("space", "comment"))


def code_of(text: str) -> list[str]:
    """The same as a list."""
    return list(code_in(text))


def forbidden(given: str, completion: str, *, tested: bool) -> str | None:
    """Why a completion is not judged; None if its words are all right.

    `tested`: tests of the task may run, and the answer must not reach what they depend on.
    """
    if len(completion) > LONGEST:
        return f"is longer than {LONGEST:,} characters"
    if _CONTROL.search(completion.replace("\r\n", "\n")) or _INVISIBLE.search(completion):
        return "holds control characters or invisible ones"
    text = given + completion
    every = list(tokens(text))
    if nesting(text, every).deepest > DEEPEST:
        return "nests too deeply"
    found = [
        token
        for token in every
        if token.end > len(given) and token.kind not in ("space", "comment")
    ]
    if any(
        token.kind in ("word", "sign") and not text[token.start : token.end].isascii()
        for token in found
    ):
        return "uses characters outside of ASCII in its code"
    if any(
        token.kind in ("string", "char") and _WORD.match(text, token.end) is not None
        for token in found
    ):
        # rustc takes `"a"r#"` for a suffix and a sign, and goes on where a raw string would begin.
        return "has a suffix on a string"
    return _in_tokens(_plain(text, found), tested)


def _plain(text: str, found: Sequence[Token]) -> list[str]:
    """Tokens as text; strings and characters as one sign, raw names as what they name."""
    return [
        '"'
        if token.kind in ("string", "char")
        else text[token.start : token.end].removeprefix("r#")
        for token in found
    ]


def _in_tokens(words: list[str], tested: bool) -> str | None:
    padded = [*words, "", "", "", ""]
    for place, word in enumerate(words):
        before = words[max(0, place - 2) : place]
        after = padded[place + 1 : place + 5]
        if word in WORDS:
            return WORDS[word]
        if word in MACROS and after[0] == "!" and after[1] != "=":
            return MACROS[word]
        if word == "crate" and not (
            before[-1:] in (["("], ["in"]) and _is_visibility(words, place)
        ):
            return "reaches out of its own module (crate)"
        if word.startswith("__trainer"):
            return "uses a name of the tests' own"
        if word == "#":
            if after[0] == "!":
                return "has an attribute for the whole module"
            if after[0] == "[" and after[1] not in ATTRIBUTES:
                return f"has the attribute {after[1][:40]}"
        if word in ROOTS and (why := _of_library(padded, place, tested)):
            return why
        if (
            word == "process"
            and after[:2] == [":", ":"]
            and after[2]
            in (
                "exit",
                "abort",
                "Command",
            )
        ):
            return "ends the process or starts others"
    return None


def _is_visibility(words: list[str], place: int) -> bool:
    """Whether the `crate` at `place` is that of `pub(crate)` or `pub(in crate::…)`."""
    opening = place - 1 if words[place - 1] == "(" else place - 2
    return opening >= 1 and words[opening] == "(" and words[opening - 1] == "pub"


def _of_library(padded: list[str], place: int, tested: bool) -> str | None:
    """Why a path that begins with `std`, `core` or `alloc` at `place` is forbidden."""
    if padded[place + 1] == "as":
        return "renames the standard library"
    if padded[place + 1 : place + 3] != [":", ":"]:
        return None
    first = padded[place + 3]
    names = [first]
    if first == "*":
        return "imports all of the standard library"
    if first == "{":
        depth, at = 1, place + 4
        while depth and at < len(padded):
            depth += (padded[at] == "{") - (padded[at] == "}")
            names.append(padded[at])
            at += 1
        if "*" in names or "self" in names[1:2] or _renames_self(names):
            return "imports or renames all of the standard library"
    if "process" in names and {"exit", "abort"} & set(names):
        return "ends the process"
    for name in names:
        if name in MACROS and name != "env":
            return MACROS[name]
        if tested and name in MODULES:
            return f"uses std::{name}, where it could tamper with its tests"
    return None


def _renames_self(names: list[str]) -> bool:
    """Whether a list of imports has `self as name` for its root."""
    depth = 0
    for place, name in enumerate(names):
        depth += (name == "{") - (name == "}")
        if name == "self" and depth == 1 and names[place + 1 : place + 2] == ["as"]:
            return names[place - 1] in ("{", ",")
    return False
