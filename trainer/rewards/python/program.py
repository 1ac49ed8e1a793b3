"""The program that a prompt and a completion make together, found without parsing either."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.rewards.interface import Answer

_FENCE = re.compile(r"^```(?:python3?|py)?[ \t]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"(?:async[ \t]+def|def|class)\b")
_TOKEN = re.compile(r"#[^\n]*|'''|\"\"\"|['\"]|[()\[\]{}]|\n|\\.", re.DOTALL)
_NAME = re.compile(r"\bdef\s+(\w+)")
_HEAD = re.compile(r"^(?:async[ \t]+)?def\s+\w+\s*\(.*?\)\s*(?:->[^:\n]+)?(?=:)", re.M | re.DOTALL)


@dataclass(frozen=True)
class Program:
    """A program to judge: the prompt's part, empty if that is no code, and the model's.

    `signature` is the head of the function that the task asks for, if it asks for one, and
    `target` its name. `solution` is the task's own program, if it has one.
    """

    given: str
    completion: str
    signature: str | None
    solution: str | None = None

    @property
    def source(self) -> str:
        """Both parts."""
        return self.given + self.completion

    @property
    def target(self) -> str | None:
        """The name of the function that the task asks for."""
        found = _NAME.search(self.signature or "")
        return found[1] if found else None


def end_of_answer(completion: str) -> int | None:
    """Where a completion that continues a function's body leaves it; None while it goes on.

    Its first line belongs to the body wherever it starts.
    """
    for start, line in _top_lines(completion):
        if start > 0 and line[:1] not in ("", "#", ")", "]", "}"):
            return start
    return None


def program_of(answer: Answer) -> Program:
    """The program of an answer, cut off where the answer ends."""
    prompt = answer.prompt
    given, completion = _encodable(prompt.prompt), _encodable(answer.completion)
    solution = None if prompt.reference is None else _encodable(prompt.prompt + prompt.reference)
    heads = _HEAD.findall(given)
    signature = prompt.signature or (heads[-1] if heads else None)
    lines = [line for _, line in _top_lines(given) if line[:1] not in ("", "#", ")", "]", "}")]
    if lines and _BLOCK.match(lines[-1]):
        end = end_of_answer(completion)
        completion = completion if end is None else completion[:end]
        return Program(given, completion, signature, solution)
    if fenced := _FENCE.search(completion):
        completion = fenced[1]
    if prompt.reference is not None:
        solution = _encodable(prompt.reference)
    return Program("", completion, signature, solution)


def _top_lines(text: str) -> Iterator[tuple[int, str]]:
    """Offset and text of each line that starts in its first column, outside brackets and strings.

    In brackets, a line that starts like a definition counts all the same: one bracket that is
    never closed does not swallow everything.
    """
    depth, quote, start, at = 0, "", 0, 0
    fresh = True  # at the start of a line
    while True:
        if fresh:
            end = text.find("\n", start)
            line = text[start : end if end >= 0 else len(text)]
            starts = line and not line[0].isspace() and not quote
            if starts and (depth == 0 or _BLOCK.match(line)):
                depth = 0
                yield start, line
            fresh = False
        found = _TOKEN.search(text, at)
        if found is None:
            return
        token, at = found[0], found.end()
        if token == "\n":
            if len(quote) == 1:  # a string of one line ends with it
                quote = ""
            start, fresh = at, True
        elif quote:
            if token == quote:
                quote = ""
            elif (
                len(quote) == 1 and token[0] == quote
            ):  # three quotes: this one ends, another begins
                at = found.start() + 1
                quote = ""
            elif token[0] == "#" or token in ("'''", '"""'):  # not inside a string
                at = found.start() + 1
        elif token in ("'", '"', "'''", '"""'):
            quote = token
        elif token in "([{":
            depth += 1
        elif token in ")]}":
            depth = max(0, depth - 1)


def _encodable(text: str) -> str:
    """Text without what UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode().replace("\r\n", "\n")
