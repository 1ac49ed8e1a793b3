"""From findings to points. Each part gives at most half of its points until it is whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.rewards.interface import Verdict
from trainer.rewards.python.inspecting import Inspection
from trainer.rewards.python.program import Program
from trainer.rewards.python.test_runs import TestRun

POINTS = {"parse": 0.25, "compile": 0.4, "tests": 0.3, "style": 0.05}
PARTS = tuple(POINTS)
MOST_PROBLEMS = 5  # problems that are worth nothing
MESSAGES = 5  # of a verdict
LENGTH = 200  # characters of a message


def verdict_on(program: Program, inspection: Inspection, tests: TestRun | None) -> Verdict:
    """The verdict on an answer; `tests` is None if it has none or they were not run."""
    if inspection.failure is not None:
        return _verdict(program, {}, messages=[f"not judged: {inspection.failure}"])
    if inspection.error is not None:
        percent = f"{100 * inspection.share:.0f}"
        return _verdict(
            program,
            {"parse": POINTS["parse"] / 2 * inspection.share},
            messages=[f"syntax error after {percent} % of the answer: {inspection.error}"],
        )
    if inspection.refusal is not None:
        return _verdict(program, {}, messages=[f"refused: the answer {inspection.refusal}"])
    parts = {"parse": POINTS["parse"]}
    messages = list(inspection.problems)
    compiled = not inspection.problems
    if not compiled:
        share = 1 - min(MOST_PROBLEMS, len(inspection.problems)) / MOST_PROBLEMS
        parts["compile"] = POINTS["compile"] / 2 * share
        return _verdict(program, parts, messages=messages, parsed=True)
    parts["compile"] = POINTS["compile"]
    tested = None if tests is None or tests.failure else tests.all_passed
    if tests is not None:
        share = 1.0 if tests.all_passed else tests.passed / max(1, tests.total) / 2
        parts["tests"] = POINTS["tests"] * share
        messages += [f"not tested: {tests.failure}"] if tests.failure else []
        if not tests.all_passed and not tests.failure:
            messages.append(f"{tests.passed} of {tests.total} parts of the tests passed")
        messages += tests.problems
    if tested is not False and (tests is None or not tests.failure):
        parts["style"] = POINTS["style"] * inspection.style
    return _verdict(program, parts, messages, parsed=True, compiled=True, tested=tested)


def _verdict(
    program: Program,
    parts: Mapping[str, float],
    messages: Sequence[str],
    *,
    parsed: bool = False,
    compiled: bool = False,
    tested: bool | None = None,
) -> Verdict:
    every = {part: round(parts.get(part, 0.0), 6) for part in PARTS}
    return Verdict(
        min(1.0, round(sum(every.values()), 6)),
        every,
        parsed,
        compiled,
        tested,
        tuple(message[:LENGTH] for message in messages[:MESSAGES]),
        program.source,
    )
