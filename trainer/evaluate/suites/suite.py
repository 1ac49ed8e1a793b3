"""A suite: tasks in one programming language, whose answers are judged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

from trainer.tasks.prompt import Prompt
from trainer.tasks.writing import task_lines


@dataclass(frozen=True)
class Suite:
    """Tasks under a name. All are in `language`."""

    name: str
    language: str
    prompts: tuple[Prompt, ...]

    @cached_property
    def sha256(self) -> str:
        """Of the tasks, in their order: two suites with the same ask the same."""
        digest = hashlib.sha256()
        for line in task_lines(self.prompts):
            digest.update(line)
        return digest.hexdigest()

    def first(self, count: int | None) -> Suite:
        """The first `count` tasks of it, or all."""
        return self if count is None else replace(self, prompts=self.prompts[:count])


def group_of(prompt: Prompt) -> str:
    """Tasks of one group are alike: those made from one template."""
    return prompt.template or prompt.id
