"""Answers as modules of one crate: the text of its files, and whose each error is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.rewards.rust.diagnostics import Diagnostic
from trainer.rewards.rust.harness import MODULE, Tests, main_source
from trainer.rewards.rust.tree import encoded

#: Errors of one module that do not keep rustc from finding those of the others. The rest may: a
#: parse error, an overflow (E0275) and a cycle (E0391) end it early.
# fmt: off
INDEPENDENT = frozenset((
    "E0004", "E0023", "E0026", "E0027", "E0040", "E0046", "E0050", "E0053", "E0061", "E0063",
    "E0069", "E0070", "E0106", "E0107", "E0117", "E0124", "E0133", "E0191", "E0200", "E0201",
    "E0204", "E0252", "E0255", "E0261", "E0262", "E0263", "E0267", "E0268", "E0276", "E0277",
    "E0282", "E0283", "E0308", "E0309", "E0310", "E0317", "E0369", "E0373", "E0381", "E0382",
    "E0383", "E0384", "E0404", "E0405", "E0407", "E0408", "E0411", "E0412", "E0415", "E0416",
    "E0422", "E0423", "E0424", "E0425", "E0428", "E0432", "E0433", "E0434", "E0435", "E0437",
    "E0438", "E0451", "E0493", "E0499", "E0502", "E0503", "E0505", "E0506", "E0507", "E0508",
    "E0509", "E0515", "E0516", "E0521", "E0529", "E0530", "E0531", "E0532", "E0533", "E0560",
    "E0565", "E0571", "E0572", "E0583", "E0592", "E0593", "E0594", "E0595", "E0596", "E0597",
    "E0599", "E0600", "E0603", "E0604", "E0605", "E0606", "E0607", "E0608", "E0609", "E0610",
    "E0614", "E0615", "E0616", "E0618", "E0620", "E0621", "E0623", "E0689", "E0700", "E0716",
    "E0728", "E0732", "E0744", "E0746",
))
# fmt: on


@dataclass(frozen=True)
class Unit:
    """A module to compile: the answer, what checks its signature, and tests.

    `check` is Rust below the answer; `tests` come below that, in a module of their own.
    """

    source: str
    check: str = ""
    tests: Tests | None = None
    own_crate: bool = False

    @property
    def lines(self) -> int:
        """Lines of the answer."""
        return self.source.count("\n") + 1


@dataclass(frozen=True)
class Errors:
    """The errors and warnings of one unit, by where they are."""

    answer: tuple[Diagnostic, ...] = ()
    check: tuple[Diagnostic, ...] = ()
    tests: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def any(self) -> bool:
        """Whether the unit keeps its crate from being compiled."""
        return bool(self.answer or self.check or self.tests)

    @property
    def may_hide_others(self) -> bool:
        """Whether rustc may have stopped at these before it saw all errors."""
        return any(
            error.code not in INDEPENDENT for error in (*self.answer, *self.check, *self.tests)
        )


def files_of(units: Sequence[Unit], *, with_tests: bool) -> dict[str, bytes]:
    """The files of a crate that holds these units."""
    files = {}
    for place, unit in enumerate(units):
        tests = unit.tests if with_tests else None
        below = f"\n{unit.check}\n" + (tests.source if tests else "")
        files[f"{MODULE}{place}.rs"] = encoded(unit.source + below)
    if with_tests:
        root = main_source([unit.tests is not None for unit in units])
    else:
        root = "".join(f"mod {MODULE}{place};\n" for place in range(len(units)))
    return files | {"root.rs": root.encode()}


def attribute(units: Sequence[Unit], diagnostics: Sequence[Diagnostic]) -> list[Errors] | None:
    """The errors of each unit; None if one of them belongs to no unit."""
    numbers = {f"{MODULE}{place}.rs": place for place in range(len(units))}
    found: list[dict[str, list[Diagnostic]]] = [{} for _ in units]
    for diagnostic in diagnostics:
        at = [(numbers[p.file], p.line) for p in diagnostic.places if p.file in numbers]
        if diagnostic.level not in ("error", "warning"):
            continue
        if not at and diagnostic.level == "error":
            return None
        for number in {number for number, _ in at}:
            line = next(line for unit, line in at if unit == number)
            kind = _part(units[number], line) if diagnostic.level == "error" else "warnings"
            if kind != "warnings" or line <= units[number].lines:
                found[number].setdefault(kind, []).append(diagnostic)
    return [Errors(**{kind: tuple(told) for kind, told in parts.items()}) for parts in found]


def _part(unit: Unit, line: int) -> str:
    if line <= unit.lines:
        return "answer"
    return "check" if line <= unit.lines + 1 + unit.check.count("\n") else "tests"
