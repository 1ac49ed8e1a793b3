"""Running programs of tests in the sandbox."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Sequence

from shared.errors import RunError
from trainer.rewards.rust.compiler import Compiled
from trainer.rewards.rust.harness import SECRET, Tests, passed_tests
from trainer.rewards.rust.scoring import TestRun
from trainer.sandbox.interface import MIB, Limits, Outcome, Work
from trainer.sandbox.sandbox import Sandbox

LIMITS = Limits(
    cpu_seconds=5,
    wall_seconds=30,  # a busy machine is no reason to fail
    memory_bytes=1024 * MIB,
    file_bytes=4 * MIB,
    folder_bytes=32 * MIB,
    processes=16,
)


def run_tests(sandbox: Sandbox, built: Sequence[tuple[Tests, Compiled]]) -> list[TestRun]:
    """Which tests pass of each answer that was built with them."""
    runnable = [(tests, made) for tests, made in built if made.succeeded and made.program]
    marks = [secrets.token_hex(16) for _ in runnable]
    outcomes = iter(
        sandbox.run_many(
            [
                Work(
                    ("/usr/bin/env", "./program", str(made.number)),
                    {"program": made.program or b"", SECRET: mark.encode()},
                    LIMITS,
                    executes_generated_code=True,
                )
                for (_, made), mark in zip(runnable, marks, strict=True)
            ]
        )
    )
    left = iter(marks)
    return [
        _run(tests, next(outcomes), next(left))
        if made.succeeded and made.program
        else TestRun(0, len(tests.names), problem=_why_not_built(made))
        for tests, made in built
    ]


def _run(tests: Tests, outcome: Outcome, secret: str) -> TestRun:
    if outcome.failure:
        raise RunError(f"Tests could not be run: {outcome.failure}.")
    passed = passed_tests(outcome.stdout, secret) & set(range(len(tests.names)))
    failed = [test.path for number, test in enumerate(tests.names) if number not in passed]
    problem = None
    if failed and (outcome.timed_out or outcome.signal == signal.SIGXCPU):
        problem = "the tests took too long"
    elif failed and outcome.signal:
        problem = f"the tests were ended by signal {outcome.signal}"
    return TestRun(len(passed), len(tests.names), tuple(failed), problem)


def _why_not_built(made: Compiled) -> str:
    errors = made.errors.tests or made.errors.answer or made.errors.check
    what = made.stopped or (errors[0].message if errors else "rustc wrote no program")
    return f"the tests cannot be built with this answer: {what}"
