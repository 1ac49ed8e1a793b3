"""From findings to points. Each part gives at most half of its points until it is whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.rewards.interface import Verdict
from trainer.rewards.rust.compiler import Compiled
from trainer.rewards.rust.harness import MODULE
from trainer.rewards.rust.inspection import Inspection

POINTS = {"parse": 0.25, "compile": 0.4, "tests": 0.3, "style": 0.05}
PARTS = tuple(POINTS)
MOST_ERRORS = 5  # kinds of errors that are worth nothing
ENDLESS = ("long_running_const_eval",)
MESSAGES = 5  # of a verdict
_OWN = re.compile(rf"\b(?:crate::)?{MODULE}\d+::")  # which module it was is not the answer's doing
LENGTH = 200  # characters of a message


@dataclass(frozen=True)
class TestRun:
    """Which of a task's tests an answer passed. `problem` says why none could be run."""

    passed: int
    total: int
    failed: tuple[str, ...] = ()
    problem: str | None = None


def refused(inspection: Inspection, why: str | None = None) -> Verdict:
    """The verdict on what is no answer: no points, and it counts as neither parsed nor compiled."""
    reason = why or f"refused: the answer {inspection.refusal}"
    return Verdict(
        0.0,
        dict.fromkeys(PARTS, 0.0),
        parsed=False,
        compiled=False,
        tested=None,
        messages=(reason,),
        source=inspection.program.source,
    )


def unparsed(inspection: Inspection) -> Verdict:
    """The verdict on an answer with a syntax error: points for what comes before it."""
    percent = f"{100 * inspection.share:.0f}"
    return _verdict(
        inspection,
        {"parse": POINTS["parse"] / 2 * inspection.share},
        messages=(f"syntax error after {percent} % of the answer",),
    )


def judged(
    inspection: Inspection,
    compiled: Compiled,
    tests: TestRun | None,
    style: float,
    *,
    lacks_tests: bool = False,
) -> Verdict:
    """The verdict on an answer that parses. `style` is between 0 and 1.

    `lacks_tests`: the task's tests were to be run, and none was found in them.
    """
    if compiled.stopped is not None:
        return refused(inspection, compiled.stopped)
    if any(error.code in ENDLESS for error in compiled.errors.answer):
        return refused(inspection, "refused: the answer computes a constant without end")
    parts = {"parse": POINTS["parse"]}
    errors = [*compiled.errors.answer, *compiled.errors.check]
    builds = not compiled.errors.answer
    whole = builds and not compiled.errors.check and inspection.has_head
    if whole:
        parts["compile"] = POINTS["compile"]
    else:
        parts["compile"] = POINTS["compile"] / 2 * (1 - _kinds_of_errors(compiled) / MOST_ERRORS)
    messages = ["no test was found in the task's tests"] if lacks_tests else []
    if builds and not whole:
        messages.append("the function's signature is not the one the task asks for")
    messages += [
        f"{error.level}{f'[{error.code}]' if error.code else ''}: {_OWN.sub('', error.message)}"
        f" (line {error.places[0].line})"
        for error in errors
        if error.places
    ]
    all_passed = whole
    if whole and tests is not None:
        all_passed = tests.problem is None and tests.passed == tests.total
        share = tests.passed / tests.total if tests.total else 0.0
        parts["tests"] = POINTS["tests"] * (1.0 if all_passed else share / 2)
        messages += [tests.problem] if tests.problem else []
        messages += [f"test {name} failed" for name in tests.failed]
    if all_passed:
        parts["style"] = POINTS["style"] * style
    return _verdict(
        inspection, parts, whole, all_passed if whole and tests is not None else None, messages
    )


def _kinds_of_errors(compiled: Compiled) -> int:
    """How many kinds of errors keep an answer from compiling; an error that may hide others counts
    as the most there can be, for how many it hides depends on rustc's mood."""
    errors = [*compiled.errors.answer, *compiled.errors.check]
    if compiled.errors.may_hide_others:
        return MOST_ERRORS
    return max(1, min(MOST_ERRORS, len({error.code for error in errors})))


def _verdict(
    inspection: Inspection,
    parts: dict[str, float],
    compiled: bool = False,
    tested: bool | None = None,
    messages: Sequence[str] = (),
) -> Verdict:
    every = {part: round(parts.get(part, 0.0), 6) for part in PARTS}
    return Verdict(
        min(1.0, round(sum(every.values()), 6)),
        every,
        inspection.parsed,
        compiled,
        tested,
        tuple(message[:LENGTH] for message in messages[:MESSAGES]),
        inspection.program.source,
    )
