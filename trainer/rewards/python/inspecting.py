"""Having answers parsed and looked at, many by one process of the sandbox."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.rewards.python.asking import BATCH, ask_all
from trainer.rewards.python.program import Program
from trainer.rewards.python.scripts import INSPECTION
from trainer.sandbox.interface import Outcome
from trainer.sandbox.sandbox import Sandbox

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
    found = [Inspection(refusal="is too long") for _ in questions]
    places = [n for n, asked in enumerate(questions) if len(asked["source"]) <= MAX_SOURCE]
    answers = ask_all(sandbox, INSPECTION, [questions[n] for n in places], batch)
    for place, told in zip(places, answers, strict=True):
        found[place] = _unfinished(told) if isinstance(told, Outcome) else _inspection(told)
    return found


def _question(program: Program, tests: str | None) -> dict[str, Any]:
    reserved = set(_NAMES.findall(tests or "")) | {"check", "candidate", "METADATA"}
    return {
        "source": program.source,
        "given": len(program.given),
        "signature": program.signature,
        "reserved": sorted(reserved),
        "solution": program.solution,
    }


def _inspection(told: dict[str, Any]) -> Inspection:
    return Inspection(**told | {"problems": tuple(told.get("problems", ()))})


def _unfinished(outcome: Outcome) -> Inspection:
    if outcome.failure is not None:
        return Inspection(failure=outcome.failure, lost=outcome.lost)
    if outcome.exceeded:
        return Inspection(error=f"compiling it takes too much {outcome.exceeded}")
    return Inspection(error=f"compiling it ended Python (signal {outcome.signal})")
