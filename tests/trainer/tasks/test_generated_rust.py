from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.faults.counts import SOAK, times
from tests.rust import needs_rustc
from trainer.rewards.rust.toolchain import Toolchain
from trainer.tasks.generator import catalogue
from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.rust.assembly import CASES

__all__ = ["needs_rustc"]


def test_every_solution_of_every_template_compiles_and_passes(
    tmp_path: Path, needs_rustc: Toolchain
) -> None:
    """One crate, with a module for each solution: rustc starts once."""
    named = []
    for template in catalogue.templates("rust"):
        for number in range(times(1, 8)):
            task = catalogue.make(template, "rust", 9, number)
            # In a soak, every style of solution; otherwise the one that was drawn.
            styles = catalogue.solutions(template, "rust", 9, number)
            for solution in styles if SOAK else [task.reference or ""]:
                source = task.prompt + solution + (task.tests or "")
                named.append((task.id, source))
    for place, (_, source) in enumerate(named):
        (tmp_path / f"m{place}.rs").write_text(source)
    modules = "".join(f"mod m{place};\n" for place in range(len(named)))
    (tmp_path / "main.rs").write_text(modules)
    flags = ("--edition=2021", "--test", "-Cdebuginfo=0", "--cap-lints=allow", "--color=never")
    program = tmp_path / "program"
    command = [str(needs_rustc.rustc), *flags, "-o", str(program), str(tmp_path / "main.rs")]
    built = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert not built.returncode, _blamed(built.stderr, r"m(\d+)\.rs", named)
    run = subprocess.run([program], capture_output=True, text=True, timeout=240, check=False)
    assert not run.returncode, _blamed(run.stdout, r"m(\d+)::tests", named)


def _blamed(output: str, pattern: str, named: list[tuple[str, str]]) -> str:
    """What rustc or the tests said, and the sources it is about."""
    places = sorted({int(place) for place in re.findall(pattern, output)})[:3]
    sources = "\n".join(f"{named[place][0]}\n{named[place][1]}" for place in places)
    return f"{output[-2000:]}\n{sources}"


def test_the_hidden_tests_of_a_task_refuse_a_constant() -> None:
    """An answer that ignores its arguments must not pass."""
    for template in catalogue.templates("rust"):
        for number in range(times(2, 50)):
            sketch = template.draw(Draw("rust", template.id, 3, number))
            answers = {repr(sketch.answer(*values)) for values in sketch.inputs[:CASES]}
            assert len(answers) > 1, (template.id, number, answers)


def test_the_hidden_tests_of_a_task_refuse_one_of_the_arguments() -> None:
    """An answer that hands back what it was given, or one field of it, must not pass."""
    for template in catalogue.templates("rust"):
        if template.name in _GIVES_BACK:
            continue
        for number in range(times(4, 50)):
            sketch = template.draw(Draw("rust", template.id, 3, number))
            tested = sketch.inputs[:CASES]
            right = [sketch.answer(*values) for values in tested]
            for given in zip(*map(_handed_over, tested), strict=False):
                assert list(given) != right, (template.id, number, right)


def _handed_over(values: tuple[object, ...]) -> list[object]:
    """The arguments, and the fields of those that are structs or tuples."""
    return [*values, *(field for value in values if isinstance(value, tuple) for field in value)]


#: Their task is to give back a part of what they are given.
_GIVES_BACK = frozenset({"get_field"})
