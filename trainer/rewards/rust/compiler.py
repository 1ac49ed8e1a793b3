"""rustc in the sandbox, many answers at a time.

One rustc for many modules costs a fraction of one each: most of its time goes into the standard
library's metadata. It tells the errors of all modules, with their files. An answer counts as
compiled only if it was part of a crate without any error: those with errors are taken out and the
rest is compiled again, until that is so. What cannot be attributed (a crash, a time-out, an error
without a file) is compiled one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.errors import RunError
from shared.text import one_line
from trainer.rewards.rust.crate import Errors, Unit, attribute, files_of
from trainer.rewards.rust.diagnostics import read_diagnostics
from trainer.rewards.rust.toolchain import Toolchain
from trainer.sandbox.interface import MIB, Limits, Outcome, Work
from trainer.sandbox.sandbox import Sandbox

BATCH = 128  # answers in one rustc
PROGRAM = "tests"


@dataclass(frozen=True)
class Compiled:
    """How a unit was compiled: without errors, or with these.

    `stopped` says how rustc ended without telling errors. `program` holds the tests, if they were
    compiled, as the one numbered `number`.
    """

    errors: Errors = field(default_factory=Errors)
    stopped: str | None = None
    program: bytes | None = None
    number: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether it is without errors."""
        return self.stopped is None and not self.errors.any


class Compiler:
    """Compiles units in `sandbox`, `batch` of them in one rustc.

    Raises RunError if the sandbox cannot run it.
    """

    def __init__(self, toolchain: Toolchain, sandbox: Sandbox, batch: int = BATCH) -> None:
        self._toolchain, self._sandbox, self._batch = toolchain, sandbox, batch
        self.runs = 0  # of rustc, so far

    def check(self, units: Sequence[Unit]) -> list[Compiled]:
        """Compile answers and the checks of their signatures, but build nothing.

        A unit with tests is not compiled again once no error of its own was seen: `build` does.
        """
        return self._rounds(units, with_tests=False)

    def build(self, units: Sequence[Unit]) -> list[Compiled]:
        """Compile answers with their tests into programs."""
        return self._rounds(units, with_tests=True)

    def _rounds(self, units: Sequence[Unit], *, with_tests: bool) -> list[Compiled]:
        found: dict[int, Compiled] = {}
        sure = False
        together = [n for n, unit in enumerate(units) if not unit.own_crate]
        crates = [
            *self._divided(together),
            *([n] for n, unit in enumerate(units) if unit.own_crate),
        ]
        while crates:
            outcomes = self._sandbox.run_many(
                [self._work([units[n] for n in crate], with_tests) for crate in crates]
            )
            self.runs += len(crates)
            again: list[int] = []
            alone: list[list[int]] = []
            for crate, outcome in zip(crates, outcomes, strict=True):
                known = self._read([units[n] for n in crate], outcome)
                if known is None and len(crate) == 1:
                    if outcome.failure and not outcome.lost:
                        raise RunError(f"rustc could not be run: {outcome.failure}.")
                    if not (sure or outcome.lost):
                        self._make_sure(with_tests)
                        sure = True
                    known = [Compiled(stopped=_how_it_ended(outcome))]
                if known is None:
                    alone += [[n] for n in crate]
                    continue
                for number, compiled in zip(crate, known, strict=True):
                    if compiled is not None:
                        found[number] = compiled
                    elif not with_tests and units[number].tests and not _hiding(known):
                        found[number] = Compiled()
                    elif units[number].own_crate:
                        alone.append([number])
                    else:
                        again.append(number)
            crates = [*self._divided(sorted(again)), *alone]
        return [found[n] for n in range(len(units))]

    def _make_sure(self, with_tests: bool) -> None:
        """Raise RunError where rustc fails at a program without errors, too.

        The disk may be full, or the linker missing: then no answer is to blame.
        """
        outcome = self._sandbox.run(self._work([Unit("pub fn nothing() {}")], with_tests))
        self.runs += 1
        if outcome.succeeded or outcome.lost:
            return
        told = [one.message for one in read_diagnostics(outcome.stderr) or ()]
        said = outcome.stderr.decode("utf-8", "replace").strip().partition("\n")[0]
        why = outcome.failure or next(iter(told), "") or said or _how_it_ended(outcome)
        raise RunError(f"rustc fails at a program without errors: {one_line(why, 300)}.")

    def _divided(self, numbers: Sequence[int]) -> list[list[int]]:
        """Crates of about one size, enough of them to keep every core busy."""
        if not numbers:
            return []
        fewest = math.ceil(len(numbers) / self._batch)
        count = max(fewest, min(self._sandbox.parallel, len(numbers) // 16))
        size = math.ceil(len(numbers) / count)
        return [list(numbers[at : at + size]) for at in range(0, len(numbers), size)]

    def _work(self, units: Sequence[Unit], with_tests: bool) -> Work:
        kind: tuple[str, ...]
        if with_tests:
            kind = ("--crate-type=bin", "--emit=link", "-Cstrip=symbols", f"-o{PROGRAM}")
        else:
            kind = ("--crate-type=lib", "--emit=metadata")
        command = (
            str(self._toolchain.rustc), "--edition=2021", "--crate-name=answers", *kind,
            "--error-format=json", "-Adead_code", "-Cdebuginfo=0", "-Coverflow-checks=on",
            "root.rs",
        )  # fmt: skip
        return Work(
            command,
            files_of(units, with_tests=with_tests),
            Limits(
                cpu_seconds=5 + 0.1 * len(units),
                wall_seconds=60 + 2 * len(units),  # a busy machine is no reason to refuse
                memory_bytes=4096 * MIB if with_tests else 2048 * MIB,
                file_bytes=(32 if with_tests else 8) * MIB,
                folder_bytes=256 * MIB,
                processes=64,
                open_files=1024,
            ),
            readable=(self._toolchain.sysroot,),
            environment={"RUSTC_ICE": "0"},
            outputs=(PROGRAM,) if with_tests else (),
        )

    def _read(self, units: Sequence[Unit], outcome: Outcome) -> list[Compiled | None] | None:
        """What is known about each unit after one run: None for those to be compiled again.

        None in all if nothing is known.
        """
        diagnostics = read_diagnostics(outcome.stderr)
        if outcome.failure or outcome.timed_out or outcome.signal or diagnostics is None:
            return None
        errors = attribute(units, diagnostics)
        if errors is None:
            return None
        if outcome.succeeded:
            program = outcome.files.get(PROGRAM)
            return [Compiled(told, None, program, number) for number, told in enumerate(errors)]
        if not any(told.any for told in errors):
            return None
        hiding = [told for told in errors if told.may_hide_others]
        return [
            Compiled(told) if (told.may_hide_others if hiding else told.any) else None
            for told in errors
        ]


def _hiding(known: Sequence[Compiled | None]) -> bool:
    """Whether an error was among those found that may hide others."""
    return any(made is not None and made.errors.may_hide_others for made in known)


def _how_it_ended(outcome: Outcome) -> str:
    if outcome.failure:
        return f"not compiled: {outcome.failure}"
    if outcome.timed_out:
        return "rustc took too long"
    if outcome.signal:
        return f"rustc was ended by signal {outcome.signal}"
    return "rustc failed without saying where"
