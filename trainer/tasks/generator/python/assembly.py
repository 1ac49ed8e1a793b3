"""A sketch becomes a Python task: its prompt, its hidden tests, its solutions."""

from __future__ import annotations

from string import Template as Text

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.sketch import Sketch, Template
from trainer.tasks.prompt import Prompt

CASES = 5  # calls in the hidden tests


def assemble(template: Template, sketch: Sketch, draw: Draw, name: str) -> Prompt:
    """The task that `sketch` describes, with one of its bodies as the reference."""
    body = draw.of(*sketch.bodies)
    signature = f"def {_fill(sketch, sketch.name)}{_fill(sketch, sketch.signature)}"
    return Prompt(
        id=name,
        prompt=f'{signature}:\n    """{_fill(sketch, sketch.doc)}"""\n',
        language="python",
        signature=signature,
        tests=tests_of(sketch),
        template=template.id,
        reference=completion_of(sketch, body),
    )


def completion_of(sketch: Sketch, body: str) -> str:
    """What a model should write after the prompt."""
    return "".join(f"    {line}\n" for line in _fill(sketch, body).splitlines())


def tests_of(sketch: Sketch) -> str:
    """A function that checks another one with some of the inputs, and its call."""
    lines = []
    for values in sketch.inputs[:CASES]:
        arguments = ", ".join(map(repr, values))
        lines.append(f"    assert candidate({arguments}) == {sketch.answer(*values)!r}\n")
    checks = "".join(lines)
    return f"\n\ndef check(candidate):\n{checks}\n\ncheck({_fill(sketch, sketch.name)})\n"


def _fill(sketch: Sketch, text: str) -> str:
    return Text(text).substitute(sketch.words) if "$" in text else text
