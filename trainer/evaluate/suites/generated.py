"""The suite `tasks`: Rust tasks of our generator's held-out templates, the same ones every time."""

from __future__ import annotations

from trainer.tasks.generator.making import make_tasks
from trainer.tasks.prompt import Prompt

COUNT = 240
SEED = 16


def tasks() -> list[Prompt]:
    """`COUNT` of them, as many of each template."""
    return make_tasks("rust", "held-out", COUNT, SEED).tasks
