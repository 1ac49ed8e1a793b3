"""Rust types in templates, values of them to call functions with, and their literals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.tasks.generator.sketch import Raw, Struct

SIGNED = ("i32", "i64")
UNSIGNED = ("u32", "u64")
INTEGERS = (*SIGNED, *UNSIGNED)
ALL_INTEGERS = frozenset(
    f"{sign}{size}" for sign in "iu" for size in ("8", "16", "32", "64", "128", "size")
)

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}


def literal(value: Any, kind: str, structs: Mapping[str, Struct]) -> str:
    """`value` as a Rust expression of type `kind`."""
    if isinstance(value, Raw) and not kind.startswith(("Option<", "Result<")):
        return str(value)
    if kind in ALL_INTEGERS:
        return str(int(value))
    if kind in ("f32", "f64"):
        return repr(float(value))
    if kind == "bool":
        return "true" if value else "false"
    if kind == "char":
        return "'" + {"'": "\\'"}.get(value, _ESCAPES.get(value, value)) + "'"
    if kind in ("&str", "&'static str"):
        return '"' + "".join(_ESCAPES.get(c, c) for c in value) + '"'
    if kind == "String":
        return "String::from(" + literal(value, "&str", structs) + ")"
    return _compound(value, kind, structs)


def _compound(value: Any, kind: str, structs: Mapping[str, Struct]) -> str:
    outer, inner = _parts(kind)
    if kind.startswith("&["):
        return "&[" + _list(value, kind[2:-1], structs) + "]"
    if kind.startswith("&"):
        return "&" + literal(value, kind[1:], structs)
    if kind.startswith("("):
        parts = zip(value, split_types(kind[1:-1]), strict=True)
        return "(" + ", ".join(literal(v, k, structs) for v, k in parts) + ")"
    if outer == "Vec":
        return f"vec![{_list(value, inner[0], structs)}]" if value else f"Vec::<{inner[0]}>::new()"
    if outer == "Option":
        return "None" if value is None else f"Some({literal(value, inner[0], structs)})"
    if outer == "Result":
        if isinstance(value, Failure):
            return f"Err({literal(value.error, inner[1], structs)})"
        return f"Ok({literal(value, inner[0], structs)})"
    struct = structs[kind]
    values = value if isinstance(value, dict) else dict(zip(_names(struct), value, strict=True))
    fields = [f"{name}: {literal(values[name], type_, structs)}" for name, type_ in struct.fields]
    return f"{kind} {{ {', '.join(fields)} }}"


class Failure:
    """The answer `Err(error)`."""

    def __init__(self, error: Any) -> None:
        self.error = error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failure) and other.error == self.error

    def __hash__(self) -> int:
        return hash(self.error)

    def __repr__(self) -> str:
        return f"Failure({self.error!r})"


def _names(struct: Struct) -> list[str]:
    return [name for name, _ in struct.fields]


def _list(values: Sequence[Any], kind: str, structs: Mapping[str, Struct]) -> str:
    return ", ".join(literal(value, kind, structs) for value in values)


def _parts(kind: str) -> tuple[str, list[str]]:
    """`Result<A, B>` as `Result` and [A, B]."""
    outer, _, inner = kind.partition("<")
    return outer, split_types(inner[:-1]) if inner else []


def split_types(text: str) -> list[str]:
    """The parts of a list, at the commas that are in no bracket."""
    return list(_split(text))


def _split(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for place, character in enumerate(text):
        if character in "<([{":
            depth += 1
        elif character in ")]}" or (character == ">" and text[place - 1] != "-"):
            depth -= 1
        elif character == "," and not depth:
            yield text[start:place].strip()
            start = place + 1
    if text[start:].strip():
        yield text[start:].strip()
