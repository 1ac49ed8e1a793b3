"""Rust as a language whose code can be judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainer.rewards.cache import SIZE, Verdicts, key_of
from trainer.rewards.interface import Answer, Verdict
from trainer.rewards.quality import Quality
from trainer.rewards.rust import scoring
from trainer.rewards.rust.compiler import BATCH, Compiled, Compiler
from trainer.rewards.rust.crate import Unit
from trainer.rewards.rust.harness import Tests, prepare_tests
from trainer.rewards.rust.inspection import Inspection, Inspector
from trainer.rewards.rust.program import end_of_answer
from trainer.rewards.rust.quality import measure_rust
from trainer.rewards.rust.style import style_of
from trainer.rewards.rust.test_runs import run_tests
from trainer.rewards.rust.toolchain import Toolchain
from trainer.rewards.rust.tree import TreeParser
from trainer.sandbox.sandbox import Sandbox


@dataclass
class _Case:
    """An answer on its way through the stages."""

    key: bytes
    inspection: Inspection
    unit: Unit
    lacks_tests: bool


class Rust:
    """Judges Rust with `toolchain` in `sandbox`. Tests are run if `runs_tests`.

    `batch` answers are compiled by one rustc, and `remembered` verdicts are kept. Not to be used by
    two threads at once.
    """

    name = "rust"
    parts = scoring.PARTS

    def __init__(
        self,
        toolchain: Toolchain,
        sandbox: Sandbox,
        *,
        runs_tests: bool,
        batch: int = BATCH,
        remembered: int = SIZE,
    ) -> None:
        self.compiler = toolchain.version
        self.runs_tests = runs_tests
        self.protection = sandbox.layers.line()
        self._sandbox = sandbox
        self._compiler = Compiler(toolchain, sandbox, batch)
        self._parser = TreeParser()
        self._inspector = Inspector()
        self._verdicts = Verdicts(remembered)

    @property
    def compilations(self) -> int:
        """How often rustc was started."""
        return self._compiler.runs

    def stops(self, completion: str) -> int | None:
        """Where the answer in a completion ends, in characters; None while it goes on."""
        return end_of_answer(completion)

    def measure(self, answers: Sequence[Answer]) -> list[Quality | None]:
        """What the model's part of each answer looks like; None for a very long one."""
        return [measure_rust(a.prompt.prompt + a.completion, len(a.prompt.prompt)) for a in answers]

    def close(self) -> None:
        """End the processes that judging uses."""
        self._sandbox.close()

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        """The verdict on each answer, in their order.

        Raises RunError if the sandbox cannot run rustc or the tests.
        """
        keys = [key_of(answer) for answer in answers]
        found = {key: known for key in keys if (known := self._verdicts.get(key)) is not None}
        cases = []
        for key, answer in zip(keys, answers, strict=True):
            if key in found:
                continue
            inspection = self._inspector.inspect(answer, tested=self.runs_tests)
            if inspection.refusal:
                found[key] = scoring.refused(inspection)
            elif not inspection.parsed:
                found[key] = scoring.unparsed(inspection)
            else:
                found[key] = scoring.unparsed(inspection)  # until it is compiled
                unit = self._unit(answer, inspection)
                lacks_tests = bool(self.runs_tests and answer.prompt.tests and not unit.tests)
                cases.append(_Case(key, inspection, unit, lacks_tests))
        found |= self._compiled(cases)
        for key in dict.fromkeys(keys):
            self._verdicts.put(key, found[key])
        return [found[key] for key in keys]

    def _unit(self, answer: Answer, inspection: Inspection) -> Unit:
        signature = inspection.program.signature
        tests = answer.prompt.tests if self.runs_tests else None
        return Unit(
            inspection.program.source,
            (signature.check or "") if signature and inspection.has_head else "",
            prepare_tests(self._parser, tests) if tests else None,
            inspection.own_crate,
        )

    def _compiled(self, cases: Sequence[_Case]) -> dict[bytes, Verdict]:
        """The verdicts on answers that parse: compiled, then run with their tests."""
        units = [case.unit for case in cases]
        checked = self._compiler.check(units)
        tested = [n for n, unit in enumerate(units) if checked[n].succeeded and unit.tests]
        built = dict(zip(tested, self._compiler.build([units[n] for n in tested]), strict=True))
        # Where the program cannot be built, the reason may be the answer or the tests.
        doubtful = [n for n in tested if not built[n].succeeded]
        again = self._compiler.check([replace(units[n], tests=None) for n in doubtful])
        checked = [built.get(n, made) for n, made in enumerate(checked)]
        for n, made in zip(doubtful, again, strict=True):
            checked[n] = made
        pairs: list[tuple[Tests, Compiled]] = []
        tested = [n for n in tested if checked[n].succeeded]
        for n in tested:
            tests = units[n].tests
            assert tests is not None
            pairs.append((tests, built[n]))
        runs = dict(zip(tested, run_tests(self._sandbox, pairs), strict=True))
        verdicts = {}
        for n, (case, made) in enumerate(zip(cases, checked, strict=True)):
            given = case.inspection.program.given.count("\n")
            warnings = [
                warning.code
                for warning in made.errors.warnings
                if all(place.line > given for place in warning.places)
            ]
            style = style_of(case.inspection.program.completion, warnings)
            verdicts[case.key] = scoring.judged(
                case.inspection, made, runs.get(n), style, lacks_tests=case.lacks_tests
            )
        return verdicts
