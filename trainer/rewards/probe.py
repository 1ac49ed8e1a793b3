"""Files judged as answers to tasks, without a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from shared.errors import UserError
from shared.files import expand_user, read_bytes
from shared.text import nearest, one_line
from trainer.rewards.interface import Answer
from trainer.rewards.rust.lexing import open_braces
from trainer.tasks.prompt import Prompt

MAX_FILE = 4 << 20  # bytes

Kind = Literal["auto", "completion", "program"]
KINDS: tuple[Kind, ...] = ("auto", "completion", "program")
_NAME = re.compile(r"\b(?:fn|def)\s+(\w+)")


def read_answer(path: str | Path) -> str:
    """The text of a file. Raises UserError if it cannot be read; bytes that are no UTF-8 are
    replaced."""
    place = expand_user(path)
    try:
        data = read_bytes(place, MAX_FILE)
    except OSError as error:
        raise UserError(f"Cannot read {one_line(place)}: {error.strerror or error}.") from error
    return data.decode("utf-8", "replace")


def prompt_for(path: str | Path, prompts: Sequence[Prompt], id_: str | None = None) -> Prompt:
    """The task that a file answers: the one with `id_`, that of its name, or the only one.

    A file's name is a task's id, alone or before a dot, a dash or an underscore: `add.rs`,
    `add-2.rs`; what a file name cannot hold is an underscore in it. Raises UserError where that is
    no task.
    """
    ids = {prompt.id: prompt for prompt in prompts}
    if id_ is not None:
        if id_ not in ids:
            raise UserError(
                f"No task has the id {one_line(id_, 80)!r}{nearest(id_, ids)}; see the prompts."
            )
        return ids[id_]
    stem = Path(path).name
    named = [prompt for prompt in prompts if _is_named(stem, prompt.id)]
    if named:
        return max(named, key=lambda prompt: len(prompt.id))
    if len(prompts) == 1:
        return prompts[0]
    raise UserError(
        f"{one_line(path)} could answer any of {len(prompts):,} tasks: give --id, or name the file "
        f"after a task, such as {one_line(_file_name(prompts[0].id), 60)}."
    )


def answer_of(text: str, prompt: Prompt, kind: Kind = "auto") -> Answer:
    """`text` as an answer.

    It continues the prompt, or it is a whole program. `auto`: it is a program if it defines the
    function that the task asks for, or closes no brace that the prompt left open; what repeats the
    prompt and goes on is its completion.
    """
    if kind == "auto":
        if prompt.prompt and text.startswith(prompt.prompt):
            return Answer(prompt, text[len(prompt.prompt) :])
        kind = "program" if is_program(text, prompt) else "completion"
    if kind == "completion":
        return Answer(prompt, text)
    heads = _NAME.findall(prompt.prompt)
    signature = prompt.signature
    if signature is None and heads:
        signature = _last_head(prompt.prompt)
    return Answer(replace(prompt, prompt="", signature=signature), text)


def is_program(text: str, prompt: Prompt) -> bool:
    """Whether a text is a whole program rather than the rest of one."""
    names = _NAME.findall(prompt.signature or prompt.prompt)
    if not names:
        return False
    before = r"(?:pub(?:\([^)]*\))?\s+)?(?:(?:const|async|unsafe)\s+)*"
    head = rf"^[ \t]*{before}(?:fn|def)\s+{re.escape(names[-1])}\b"
    if re.search(head, text, re.MULTILINE) is not None:
        return True
    return prompt.language == "rust" and open_braces(prompt.prompt) > 0 and open_braces(text) == 0


def _last_head(text: str) -> str | None:
    from trainer.tasks.signatures import signature_in

    return signature_in(text, "rust") or signature_in(text, "python")


def _is_named(name: str, id_: str) -> bool:
    """Whether a file's name is a task's id, or begins with it."""
    told = _safe(id_)
    return name.startswith(told) and name[len(told) : len(told) + 1] in ("", ".", "-", "_")


def _file_name(id_: str) -> str:
    return f"{_safe(id_)}.rs"


def _safe(id_: str) -> str:
    return re.sub(r"[^\w.-]", "_", id_)
