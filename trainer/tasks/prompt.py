"""A programming task, and files of them: JSON Lines with one task per line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prompt:
    """A task that a model answers with code.

    `prompt` is the text the model continues, such as a doc comment and a function's head. It ends
    with the newline after the opening brace: most tokenizers make one token of both. `signature`
    is the head the answer must define. `tests` are hidden from the model and appended to the answer
    to check it. `template` names what generated the task: tasks are split into training and
    held-out ones by it. `reference` is an answer that solves it.
    """

    id: str
    prompt: str
    language: str
    signature: str | None = None
    tests: str | None = None
    template: str | None = None
    reference: str | None = None
