"""Having answers parsed and looked at, many by one process of the sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.rewards.python.program import Program
from trainer.rewards.python.scripts import INSPECTION
from trainer.sandbox.interface import MIB, Limits, Outcome, Work
from trainer.sandbox.interpreter import python_readable
from trainer.sandbox.sandbox import Sandbox

BATCH = 32
MAX_SOURCE = 1 << 18  # characters; nobody answers a task with more
_NAMES = re.compile(r"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+(\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Inspection:
    """What is known of an answer that has not been run.

    `error` is its syntax error, after `share` of it. `refusal` says why it is no answer. `problems`
    keep it from being whole, `style` is between 0 and 1. `failure`: nothing could be found out,
    `lost` because the launcher died.
    """

    error: str | None = None
    share: float = 0.0
    refusal: str | None = None
    problems: tuple[str, ...] = ()
    style: float = 0.0
    failure: str | None = None
    lost: bool = False


def inspect_all(
    sandbox: Sandbox, asked: Sequence[tuple[Program, str | None]], batch: int = BATCH
) -> list[Inspection]:
    """The inspections of programs, each with the tests of its task or None."""
    questions = [_question(program, tests) for program, tests in asked]
    found: list[Inspection | None] = [
        Inspection(refusal="is too long") if len(question["source"]) > MAX_SOURCE else None
        for question in questions
    ]
    size = batch
    while waiting := [place for place, known in enumerate(found) if known is None]:
        groups = [waiting[at : at + size] for at in range(0, len(waiting), size)]
        works = [_work([questions[place] for place in group]) for group in groups]
        for group, outcome in zip(groups, sandbox.run_many(works), strict=True):
            told = outcome.stdout.splitlines(keepends=True)
            for place, line in zip(group, told, strict=False):
                if line.endswith(b"\n"):
                    found[place] = _inspection(json.loads(line))
            # The first without a line ended the process; those behind it are asked again.
            first = next((place for place in group if found[place] is None), None)
            if first is not None:
                found[first] = _unfinished(outcome)
    return [known for known in found if known is not None]


def _question(program: Program, tests: str | None) -> dict[str, Any]:
    reserved = set(_NAMES.findall(tests or "")) | {"check", "candidate", "METADATA"}
    return {
        "source": program.source,
        "given": len(program.given),
        "signature": program.signature,
        "reserved": sorted(reserved),
        "solution": program.solution,
    }


def _work(questions: Sequence[dict[str, Any]]) -> Work:
    return Work(
        INSPECTION.command,
        INSPECTION.files | {"asked.json": json.dumps(questions).encode()},
        Limits(
            cpu_seconds=5 + 0.5 * len(questions),
            wall_seconds=60 + len(questions),  # a busy machine is no reason to refuse
            memory_bytes=1024 * MIB,
            processes=4,
        ),
        readable=python_readable(),
    )


def _inspection(told: dict[str, Any]) -> Inspection:
    return Inspection(**told | {"problems": tuple(told.get("problems", ()))})


def _unfinished(outcome: Outcome) -> Inspection:
    if outcome.failure is not None:
        return Inspection(failure=outcome.failure, lost=outcome.lost)
    if outcome.exceeded:
        return Inspection(error=f"compiling it takes too much {outcome.exceeded}")
    return Inspection(error=f"compiling it ended Python (signal {outcome.signal})")
