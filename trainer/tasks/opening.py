"""Where a task's text ends and its answer begins, in tokens.

A text that stops after `{` is not always encoded as the beginning of the text that goes on: many
tokenizers join symbols with the end of their line, so that training has shown ` {` followed by a
newline as one token and never as two. A model that is given ` {` alone has to write what it never
saw, and mostly closes the brace.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

NEW_LINE = "\n    x"  # how an answer begins


class Codec(Protocol):
    """The part of a tokenizer that is needed."""

    def encode_prompt(self, text: str) -> list[int]:
        """The ids of a text to be continued."""

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids."""


def open_answer(text: str, codec: Codec) -> tuple[list[int], str]:
    """The ids of a task's text, and the white space of its answer that they hold already.

    They are those with which the text begins when an answer follows on a new line: where a token
    joins the end of the text with the end of its line, it belongs to them. Where one joins the
    newline at the end of the text with the indentation after it, as GPT-2's do, the newline is
    left to the answer, which then begins with one more.
    """
    plain = codec.encode_prompt(text)
    if not text or text[-1].isspace():
        return _before_indentation(text, plain, codec), ""
    whole = codec.encode_prompt(text + NEW_LINE)
    known, end = codec.decode_bytes(plain), 0
    while end < len(plain) and whole[: end + 1] == plain[: end + 1]:
        end += 1
    if end == len(plain):
        return plain, ""
    while end < len(whole):
        end += 1
        spelled = codec.decode_bytes(whole[:end])
        if len(spelled) >= len(known):
            break
    more = spelled[len(known) :]
    if not spelled.startswith(known) or more.strip() or not more:
        return plain, ""
    return whole[:end], more.decode("ascii", "replace")


def _before_indentation(text: str, plain: list[int], codec: Codec) -> list[int]:
    """The ids of a text that ends with white space, less those that an indented line changes."""
    whole = codec.encode_prompt(text + NEW_LINE.lstrip("\n"))
    end = 0
    while end < min(len(plain), len(whole)) and whole[end] == plain[end]:
        end += 1
    dropped = codec.decode_bytes(plain[end:])
    return plain[:end] if end and not dropped.strip() else plain
