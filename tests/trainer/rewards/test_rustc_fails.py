"""rustc that fails for reasons of its own: no answer is blamed for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from shared.errors import RunError
from tests.rust import needs_rustc
from trainer.rewards.rust.compiler import Compiler
from trainer.rewards.rust.crate import Unit
from trainer.rewards.rust.toolchain import Toolchain
from trainer.sandbox.interface import Outcome, Work
from trainer.sandbox.sandbox import Sandbox

__all__ = ["needs_rustc"]

TOOLCHAIN = Toolchain(Path("/usr/bin/rustc"), Path("/usr"), "rustc 1.95.0")


class Fails:
    """A sandbox in which rustc ends as `outcome` says; but not at `good`, if that is given."""

    parallel = 1

    def __init__(self, outcome: Outcome, good: bytes | None = None) -> None:
        self.outcome, self.good = outcome, good

    def run(self, work: Work) -> Outcome:
        return self.run_many([work])[0]

    def run_many(self, works: Sequence[Work]) -> list[Outcome]:
        return [
            Outcome(exit_code=0)
            if self.good and any(self.good in data for data in work.files.values())
            else self.outcome
            for work in works
        ]


def compiler(outcome: Outcome, good: bytes | None = None) -> Compiler:
    sandbox: Any = Fails(outcome, good)
    return Compiler(TOOLCHAIN, sandbox)


LINKER = {"level": "error", "message": "linker `cc` not found", "code": None, "spans": []}


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome(exit_code=1, stderr=json.dumps(LINKER).encode()), "linker `cc` not found"),
        (Outcome(exit_code=127, stderr=b"rustc: no \x1blibrary\n"), "rustc: no"),
        (Outcome(signal=9, exceeded="time"), "rustc took too long"),
    ],
)
def test_where_nothing_compiles_judging_ends(outcome: Outcome, told: str) -> None:
    with pytest.raises(RunError, match=f"fails at a program without errors: {told}") as caught:
        compiler(outcome).check([Unit("fn a() {}"), Unit("fn b() {}")])
    assert "\x1b" not in str(caught.value)


def test_an_answer_at_which_rustc_crashes_has_failed() -> None:
    crashing = compiler(Outcome(signal=11), good=b"fn nothing() {}")
    made = crashing.check([Unit("fn a() {}"), Unit("fn b() {}")])
    assert [one.stopped for one in made] == ["rustc was ended by signal 11"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("with_tests", [False, True])
def test_the_program_without_errors_has_none(needs_rustc: Toolchain, with_tests: bool) -> None:
    with Sandbox(parallel=1) as sandbox:
        Compiler(needs_rustc, sandbox)._make_sure(with_tests)
