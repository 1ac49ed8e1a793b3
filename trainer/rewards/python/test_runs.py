"""Running a task's tests on answers, each in a sandbox of its own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import RunError
from trainer.rewards.python.program import Program
from trainer.rewards.python.scripts import CHECKING
from trainer.sandbox.interface import MIB, Limits, Outcome, Work
from trainer.sandbox.interpreter import python_readable
from trainer.sandbox.sandbox import Sandbox

LIMITS = Limits(
    cpu_seconds=5,
    wall_seconds=30,  # a busy machine is no reason to fail
    memory_bytes=1024 * MIB,
    file_bytes=4 * MIB,
    folder_bytes=32 * MIB,
    processes=16,
)


@dataclass(frozen=True)
class TestRun:
    """How many parts of the tests passed, and what went wrong otherwise.

    `failure`: they could not be run at all, through no fault of the answer's.
    """

    passed: int
    total: int
    problems: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def all_passed(self) -> bool:
        """Whether there were tests, and all of them passed."""
        return 0 < self.total == self.passed


def run_tests(sandbox: Sandbox, asked: Sequence[tuple[Program, str]]) -> list[TestRun]:
    """What comes of the tests of each program. Raises RunError if the sandbox cannot run them."""
    marks = [secrets.token_hex(16) for _ in asked]
    works = [
        _work(program, tests, mark) for (program, tests), mark in zip(asked, marks, strict=True)
    ]
    outcomes = sandbox.run_many(works)
    return [_run(outcome, mark) for outcome, mark in zip(outcomes, marks, strict=True)]


def _work(program: Program, tests: str, mark: str) -> Work:
    asked = {
        "tests": tests,
        "given": program.given,
        "target": program.target,
        "mark": mark,
    }
    own = {"answer.py": program.source.encode(), "asked.json": json.dumps(asked).encode()}
    return Work(
        CHECKING.command,
        CHECKING.files | own,
        LIMITS,
        readable=python_readable(),
        executes_generated_code=True,
    )


def _run(outcome: Outcome, mark: str) -> TestRun:
    if outcome.failure is not None:
        if not outcome.lost:
            raise RunError(f"Tests cannot be run in the sandbox: {outcome.failure}.")
        return TestRun(0, 0, failure=outcome.failure)
    total, passed, problems = 0, set(), []
    for line in outcome.stdout.split(b"\n"):
        told, _, text = line.partition(b" ")
        if told != mark.encode():
            continue
        message = json.loads(text)
        total = message.get("total", total)
        passed |= {message["passed"]} if "passed" in message else set()
        problems += [message[key] for key in ("problem", "raised") if key in message]
    if outcome.exceeded:
        problems.append(f"the tests took too much {outcome.exceeded}")
    return TestRun(len(passed), total, tuple(problems))
