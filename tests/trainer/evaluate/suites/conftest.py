"""A tiny language, and tasks in it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from trainer.evaluate.suites.suite import Suite
from trainer.rewards.interface import Answer, Verdict
from trainer.rewards.quality import Quality
from trainer.tasks.prompt import Prompt


class Letters:
    """Answers end after a line; they compile with an `e` in them, and pass their tests with an `a`.

    `asked` are the sizes of the batches that were judged.
    """

    name = "letters"
    compiler = "letters 1.0"
    parts = ("parse", "compile", "tests")

    def __init__(self, *, runs_tests: bool = True) -> None:
        self.runs_tests = runs_tests
        self.asked: list[int] = []

    def stops(self, completion: str) -> int | None:
        end = completion.find("\n")
        return None if end < 0 else end + 1

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        self.asked.append(len(answers))
        return [self._verdict(answer) for answer in answers]

    def _verdict(self, answer: Answer) -> Verdict:
        text = answer.completion
        parsed, compiled = bool(text.strip()), "e" in text
        tested = ("a" in text) if compiled and answer.prompt.tests and self.runs_tests else None
        parts = {"parse": 0.3 * parsed, "compile": 0.4 * compiled, "tests": 0.3 * bool(tested)}
        return Verdict(sum(parts.values()), parts, parsed, compiled, tested, ("\x1b[31mno",))

    def measure(self, answers: Sequence[Answer]) -> list[Quality | None]:
        return [None] * len(answers)

    def close(self) -> None:
        pass


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def suite() -> Suite:
    prompts = [
        Prompt(f"p{n}", f"def f{n}(x", "letters", tests="t" if n < 4 else None, reference="):\n")
        for n in range(6)
    ]
    return Suite("little", "letters", tuple(prompts))
