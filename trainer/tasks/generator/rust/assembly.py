"""A sketch becomes a Rust task: its prompt, its hidden tests, its solutions."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template as Text

from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.rust.types import literal, split_types
from trainer.tasks.generator.sketch import Sketch, Struct, Template
from trainer.tasks.prompt import Prompt

CASES = 5  # calls in the hidden tests

_TESTS = """
#[cfg(test)]
mod tests {{
    use super::*;

    #[test]
    fn answers() {{
{checks}
    }}
}}
"""


def assemble(template: Template, sketch: Sketch, draw: Draw, name: str) -> Prompt:
    """The task that `sketch` describes, with one of its bodies as the reference."""
    body = draw.of(*sketch.bodies)
    signature = signature_of(sketch)
    doc = "".join(f"/// {line}".rstrip() + "\n" for line in _fill(sketch, sketch.doc).splitlines())
    items = _fill(sketch, sketch.items).strip()
    return Prompt(
        id=name,
        prompt=(items + "\n\n" if items else "") + doc + signature + " {\n",
        language="rust",
        signature=signature,
        tests=tests_of(sketch),
        template=template.id,
        reference=completion_of(sketch, body),
    )


def signature_of(sketch: Sketch) -> str:
    """The head of the function, without its brace."""
    return "pub fn " + _fill(sketch, sketch.name) + _fill(sketch, sketch.signature)


def completion_of(sketch: Sketch, body: str) -> str:
    """What a model should write after the prompt: the lines of a body and the closing brace."""
    lines = _fill(sketch, body).strip("\n").splitlines()
    return "".join(f"    {line}\n" if line else "\n" for line in lines) + "}\n"


def tests_of(sketch: Sketch) -> str:
    """A module of tests that calls the function with some of the inputs."""
    structs = {struct.name: struct for struct in sketch.structs}
    kinds, returns = _types(_fill(sketch, sketch.signature))
    name = _fill(sketch, sketch.name)
    checks = []
    for values in sketch.inputs[:CASES]:
        arguments = zip(values, kinds, strict=True)
        call = f"{name}({', '.join(literal(v, kind, structs) for v, kind in arguments)})"
        checks.append(" " * 8 + _check(call, sketch.answer(*values), returns, structs))
    return _TESTS.format(checks="\n".join(checks))


def _check(call: str, answer: object, returns: str, structs: Mapping[str, Struct]) -> str:
    expected = literal(answer, returns, structs)
    if returns == "bool":
        return f"assert!({call});" if answer else f"assert!(!{call});"
    if returns in ("f32", "f64"):
        return f"assert!(({call} - ({expected})).abs() < 1e-6);"
    return f"assert_eq!({call}, {expected});"


def _types(signature: str) -> tuple[list[str], str]:
    """Types of the parameters and of the result of `(a: i32, b: &str) -> bool`."""
    parameters, _, returns = signature.rpartition(") -> ")
    kinds = [part.partition(": ")[2] for part in split_types(parameters.lstrip("("))]
    return kinds, returns


def _fill(sketch: Sketch, text: str) -> str:
    return Text(text).substitute(sketch.words) if "$" in text else text
