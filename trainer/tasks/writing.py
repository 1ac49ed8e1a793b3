"""Tasks to files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict

from shared.json_text import encode_json
from trainer.tasks.prompt import Prompt


def task_lines(prompts: Iterable[Prompt]) -> Iterator[bytes]:
    """JSON Lines of tasks; what a task does not have is left out."""
    for prompt in prompts:
        fields = {key: value for key, value in asdict(prompt).items() if value is not None}
        yield encode_json(fields) + b"\n"


def text_lines(prompts: Iterable[Prompt]) -> Iterator[bytes]:
    """JSON Lines of solved tasks as documents for `trainer prepare-data`, in the field `text`."""
    for prompt in prompts:
        if prompt.reference is not None:
            text = prompt.prompt + prompt.reference
            yield encode_json({"id": prompt.id, "text": text}) + b"\n"
