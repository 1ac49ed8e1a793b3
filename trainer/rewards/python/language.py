"""Python as a language whose code can be judged."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from shared.errors import RunError
from trainer.rewards.interface import Answer, Verdict
from trainer.rewards.python.inspecting import inspect_all
from trainer.rewards.python.program import Program, end_of_answer, program_of
from trainer.rewards.python.scoring import PARTS, verdict_on
from trainer.rewards.python.test_runs import run_tests
from trainer.sandbox.sandbox import Sandbox


class Python:
    """Judges Python in `sandbox`, with this interpreter. Tests are run if `runs_tests`."""

    name = "python"
    parts = PARTS

    def __init__(self, sandbox: Sandbox, *, runs_tests: bool) -> None:
        self.compiler = f"Python {platform.python_version()}"
        self.runs_tests = runs_tests
        self.protection = sandbox.layers.line()
        self._sandbox = sandbox

    def stops(self, completion: str) -> int | None:
        """Where the answer in a completion ends, in characters; None while it goes on."""
        return end_of_answer(completion)

    def close(self) -> None:
        """End the processes that judging uses."""
        self._sandbox.close()

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """The verdict on each answer, in their order. The same answer is judged once.

        What is lost with a launcher that dies is worth nothing. Raises RunError if the sandbox
        cannot run Python.
        """
        wanted = [self._case(answer) for answer in answers]
        cases = list(dict.fromkeys(wanted))
        inspections = inspect_all(self._sandbox, cases)
        for found in inspections:
            if found.failure is not None and not found.lost:
                raise RunError(f"Python cannot be run in the sandbox: {found.failure}.")
        sound = [
            place
            for place, found in enumerate(inspections)
            if not (found.error or found.refusal or found.failure or found.problems)
        ]
        tested = [(place, tests) for place in sound if (tests := cases[place][1]) is not None]
        runs = run_tests(self._sandbox, [(cases[place][0], tests) for place, tests in tested])
        by_place = {place: run for (place, _), run in zip(tested, runs, strict=True)}
        verdicts = {
            case: verdict_on(case[0], found, by_place.get(place))
            for place, (case, found) in enumerate(zip(cases, inspections, strict=True))
        }
        return [verdicts[case] for case in wanted]

    def _case(self, answer: Answer) -> tuple[Program, str | None]:
        tests = answer.prompt.tests if self.runs_tests else None
        return program_of(answer), tests or None
