"""What every reward language offers: answers in, verdicts out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trainer.rewards.quality import Quality
from trainer.tasks.prompt import Prompt


@dataclass(frozen=True)
class Answer:
    """What a model wrote after a task's prompt."""

    prompt: Prompt
    completion: str


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth.

    `reward` is between 0 and 1, and the sum of `parts`: the points of each part, by name.
    `tested` is None if the task has no tests or they were not run. `messages` are what the compiler
    said, shortened; they come from foreign code and may hold anything. `source` is the program that
    was judged.
    """

    reward: float
    parts: Mapping[str, float]
    parsed: bool
    compiled: bool
    tested: bool | None
    messages: tuple[str, ...] = ()
    source: str = field(default="", repr=False)


class Language(Protocol):
    """A programming language whose code can be judged."""

    name: str
    #: The program that judges, with its version: `rustc 1.95.0`.
    compiler: str
    #: Whether the tests of tasks are run; they are not where the sandbox cannot contain them.
    runs_tests: bool
    #: The layers of the sandbox in which all of it happens, in one line.
    protection: str
    #: The names of the parts of a reward, in the order they are shown.
    parts: tuple[str, ...]

    def stops(self, completion: str) -> int | None:
        """Where the answer in a completion ends, in characters; None while it goes on."""

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """The verdict on each answer, in their order. Never raises for what an answer holds."""

    def measure(self, answers: Sequence[Answer]) -> list[Quality | None]:
        """What the model's part of each answer looks like, which parses; None where it is not
        known.
        """

    def close(self) -> None:
        """End the processes that judging uses."""
