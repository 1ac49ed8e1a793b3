"""Running programs of tests in the sandbox."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator, Sequence

from shared.errors import RunError
from trainer.rewards.rust.compiler import Compiled
from trainer.rewards.rust.harness import SECRET, Ended, Tests, read_results
from trainer.rewards.rust.scoring import TestRun
from trainer.sandbox.interface import MIB, Limits, Outcome, Work
from trainer.sandbox.sandbox import Sandbox

TOGETHER = 16  # answers whose tests are started one after the other by one program
#: CPU time counts per process, so it is each answer's. The program ends what takes 10 seconds.
LIMITS = Limits(
    cpu_seconds=5,
    wall_seconds=60 + 10 * TOGETHER,
    memory_bytes=1024 * MIB,
    file_bytes=4 * MIB,
    folder_bytes=64 * MIB,
    processes=32,
)


def run_tests(sandbox: Sandbox, built: Sequence[tuple[Tests, Compiled]]) -> list[TestRun]:
    """Which tests pass of each answer that was built with them."""
    found: dict[int, Ended] = {}
    runnable = [n for n, (_, made) in enumerate(built) if made.succeeded and made.program]
    for size in (TOGETHER, 1):  # where a program was ended as a whole, one by one
        left = [n for n in runnable if n not in found]
        groups = list(_groups(left, [made for _, made in built], size))
        marks = [[secrets.token_hex(16) for _ in (0, *group)] for group in groups]
        works = [
            _work(group, [built[n][1] for n in group], mark)
            for group, mark in zip(groups, marks, strict=True)
        ]
        for group, mark, outcome in zip(groups, marks, sandbox.run_many(works), strict=True):
            ended = _read(outcome, mark[0])
            numbers = {built[n][1].number: n for n in group}
            found |= {numbers[number]: how for number, how in ended.items() if number in numbers}
    return [_run(tests, made, found.get(n)) for n, (tests, made) in enumerate(built)]


def _groups(left: Sequence[int], made: Sequence[Compiled], size: int) -> Iterator[list[int]]:
    """At most `size` answers of one program each."""
    programs: dict[int, list[int]] = {}
    for n in left:
        programs.setdefault(id(made[n].program), []).append(n)
    for group in programs.values():
        for at in range(0, len(group), size):
            yield group[at : at + size]


def _work(group: Sequence[int], made: Sequence[Compiled], marks: Sequence[str]) -> Work:
    lines = [marks[0]]
    lines += [f"{one.number} {mark}" for one, mark in zip(made, marks[1:], strict=True)]
    files = {"program": made[0].program or b"", SECRET: "\n".join(lines).encode()}
    return Work(("./program",), files, LIMITS, executes_generated_code=True)


def _read(outcome: Outcome, secret: str) -> dict[int, Ended]:
    if outcome.failure and not outcome.lost:
        raise RunError(f"Tests could not be run: {outcome.failure}.")
    return read_results(outcome.stdout, secret)


def _run(tests: Tests, made: Compiled, ended: Ended | None) -> TestRun:
    if not (made.succeeded and made.program):
        return TestRun(0, len(tests.names), problem=_why_not_built(made))
    if ended is None:
        return TestRun(0, len(tests.names), problem="the tests were ended")
    failed = [test.path for number, test in enumerate(tests.names) if number not in ended.passed]
    problem = None
    if failed and ended.how in ("slow", f"signal-{int(signal.SIGXCPU)}"):
        problem = "the tests took too long"
    elif failed and ended.how != "ended":
        problem = f"the tests were ended by signal {ended.how.removeprefix('signal-')}"
    passed = len(tests.names) - len(failed)
    return TestRun(passed, len(tests.names), tuple(failed), problem)


def _why_not_built(made: Compiled) -> str:
    errors = made.errors.tests or made.errors.answer or made.errors.check
    what = made.stopped or (errors[0].message if errors else "rustc wrote no program")
    return f"the tests cannot be built with this answer: {what}"
