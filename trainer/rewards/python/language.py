"""Python as a language whose code can be judged."""

from __future__ import annotations

import platform
from collections.abc import Sequence

from shared.errors import RunError
from trainer.rewards.cache import SIZE, Verdicts, key_of
from trainer.rewards.interface import Answer, Verdict
from trainer.rewards.python.inspecting import inspect_all
from trainer.rewards.python.measuring import measure_all
from trainer.rewards.python.program import Program, end_of_answer, program_of
from trainer.rewards.python.scoring import PARTS, verdict_on
from trainer.rewards.python.test_runs import run_tests
from trainer.rewards.quality import Quality
from trainer.sandbox.sandbox import Sandbox

_Case = tuple[Program, str | None]  # with the tests that are run on it


class Python:
    """Judges Python in `sandbox`, with this interpreter. Tests are run if `runs_tests`, and
    `remembered` verdicts are kept. Not to be used by two threads at once.
    """

    name = "python"
    parts = PARTS

    def __init__(self, sandbox: Sandbox, *, runs_tests: bool, remembered: int = SIZE) -> None:
        self.compiler = f"Python {platform.python_version()}"
        self.runs_tests = runs_tests
        self.protection = sandbox.layers.line()
        self._sandbox = sandbox
        self._verdicts = Verdicts(remembered)

    def stops(self, completion: str) -> int | None:
        """Where the answer in a completion ends, in characters; None while it goes on."""
        return end_of_answer(completion)

    def measure(self, answers: Sequence[Answer]) -> list[Quality | None]:
        """What the model's part of each answer looks like; None where it cannot be found out."""
        return measure_all(self._sandbox, [program_of(answer) for answer in answers])

    def close(self) -> None:
        """End the processes that judging uses."""
        self._sandbox.close()

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """The verdict on each answer, in their order. One that is known is not judged again.

        What is lost with a launcher that dies is worth nothing, and not remembered. Raises RunError
        if the sandbox cannot run Python.
        """
        keys = [key_of(answer) for answer in answers]
        found = {key: known for key in keys if (known := self._verdicts.get(key)) is not None}
        new = {key: self._case(a) for key, a in zip(keys, answers, strict=True) if key not in found}
        for key, (verdict, is_lost) in zip(new, self._judged(list(new.values())), strict=True):
            found[key] = verdict
            if not is_lost:
                self._verdicts.put(key, verdict)
        return [found[key] for key in keys]

    def _judged(self, cases: Sequence[_Case]) -> list[tuple[Verdict, bool]]:
        """The verdict on each case, and whether it says nothing because it was lost."""
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
        judged = []
        for place, ((program, _), found) in enumerate(zip(cases, inspections, strict=True)):
            run = by_place.get(place)
            is_lost = found.failure is not None or (run is not None and run.failure is not None)
            judged.append((verdict_on(program, found, run), is_lost))
        return judged

    def _case(self, answer: Answer) -> _Case:
        tests = answer.prompt.tests if self.runs_tests else None
        return program_of(answer), tests or None
