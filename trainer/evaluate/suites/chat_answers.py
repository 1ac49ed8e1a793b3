"""A task as a question to a chat model, and the code in its reply as an answer to the task."""

from __future__ import annotations

import re
from dataclasses import replace

from trainer.rewards.interface import Answer
from trainer.tasks.prompt import Prompt

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^\n`]*$", re.MULTILINE)
_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_NAMES = {"rust": ("rust", "rs"), "python": ("python", "py", "python3")}
_HEAD = re.compile(r"\b(?:fn|def|function|func)\s+(\w+)")
_ITEM = re.compile(
    r"(?:pub(?:\([^)]*\))?\s+)?(fn|struct|enum|trait|type|const|static|mod|def|class)\s+(\w+)"
)
_CHUNK = re.compile(
    r"^(?=[^\s{})\]])(?!where\b)", re.MULTILINE
)  # at each line that is not indented
_REMARK = re.compile(r"//|/\*|#|@|pub\b(?:\([^)]*\))?\s*$")


def question(prompt: Prompt) -> str:
    """What the model is asked."""
    language = prompt.language.capitalize()
    return (
        f"Complete this {language} code. Answer with all of the code in one code block, and "
        f"nothing else.\n\n```{prompt.language}\n{prompt.prompt.rstrip()}\n```"
    )


def reply_end(text: str) -> int | None:
    """Where a reply has said all that counts: behind its first code block that is closed."""
    block = _block(_without_thought(text), ())
    return None if block is None or not block[2] else len(text)


def code_in(reply: str, language: str) -> str:
    """The code of a reply: its first code block in the language, else its first one, else all.

    Thoughts before the answer are no part of it. A block that is not closed goes to the end.
    """
    text = _without_thought(reply)
    block = _block(text, _NAMES.get(language, (language,))) or _block(text, ())
    return text if block is None else text[block[0] : block[1]]


def as_answer(prompt: Prompt, code: str) -> Answer:
    """The answer that `code` is to a task.

    Code that defines the task's function replaces the prompt, all but what the function needs and
    `code` does not have: imports, and types that the prompt defines. Other code is taken to
    continue the prompt.
    """
    names = _HEAD.findall(prompt.signature or prompt.prompt)
    head = rf"\b(?:fn|def|function|func)\s+{re.escape(names[-1])}\b" if names else None
    if head is None or not re.search(head, code):
        return Answer(prompt, code)
    kept = _needed(prompt.prompt, head, code)
    return Answer(replace(prompt, prompt=kept), code)


def _needed(prompt: str, head: str, code: str) -> str:
    """The items of `prompt` before the function with this `head` that `code` does not have."""
    begins = list(re.finditer(head, prompt))
    before = prompt[: begins[-1].start()] if begins else prompt
    kept: list[str] = []
    pending: list[str] = []  # comments and attributes, which belong to what follows
    for chunk in _CHUNK.split(before):
        pending.append(chunk)
        if not chunk.strip() or _REMARK.match(chunk):
            continue
        if not _has(code, chunk):
            kept += pending
        pending = []
    return "".join(kept).rstrip("\n") + "\n\n" if kept else ""


def _has(code: str, chunk: str) -> bool:
    """Whether `code` defines what this item defines, or has its first line."""
    item = _ITEM.match(chunk)
    if item is not None:
        return re.search(rf"\b{item[1]}\s+{re.escape(item[2])}\b", code) is not None
    return chunk.strip().partition("\n")[0] in code


def _without_thought(text: str) -> str:
    return _THOUGHT.sub("", text)


def _block(text: str, names: tuple[str, ...]) -> tuple[int, int, bool] | None:
    """Begin and end of the first code block with one of `names`, or any; whether it is closed."""
    place = 0
    while opening := _FENCE.search(text, place):
        begin = min(opening.end() + 1, len(text))
        closing = re.compile(rf"^[ \t]*{re.escape(opening[1])}`*~*[ \t]*$", re.MULTILINE)
        closed = closing.search(text, begin)
        end = closed.start() if closed else len(text)
        if not names or opening[2].lower() in names:
            return begin, end, closed is not None
        place = closed.end() if closed else len(text)
    return None
