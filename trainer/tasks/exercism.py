"""Exercises of Exercism's Rust track: instructions, a stub, and tests beside it.

An exercise is a task when its stub is one function: the instructions become its doc comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.tasks.prompt import Prompt
from trainer.tasks.records import BadTaskError, text, text_if_any
from trainer.tasks.rust_items import Item, foreign_paths, items_of

PRACTICE = Path("exercises/practice")
#: What tests import and can do without.
_ASSERTIONS = re.compile(r"^use pretty_assertions::[^;]*;\n", re.MULTILINE)
_IGNORED = re.compile(r"^[ \t]*#\[ignore[^\]]*\]\n", re.MULTILINE)
_INNER = re.compile(r"^#!\[[^\]]*\]\n", re.MULTILINE)
_HEADING = re.compile(r"^#+ (?:Instructions|Description)\s*$", re.MULTILINE)


def is_exercise(record: Mapping[str, Any]) -> bool:
    """Whether a record is an exercise."""
    return {"slug", "instructions", "stub", "tests"} <= record.keys()


def exercise(record: Mapping[str, Any]) -> Iterator[Prompt]:
    """The task of an exercise, if its stub is one function. Raises BadTaskError."""
    slug = text(record, "slug")
    stub = items_of(text_if_any(record, "stub") or "")
    solution = items_of(text_if_any(record, "solution") or "")
    function = _only_function(stub)
    if function is None:
        return
    solved = next((item for item in solution if item.head and item.name == function.name), None)
    if not function.head:  # the stub leaves types open, such as `???`
        if solved is None:
            return
        function = solved
    others = [item for item in stub if item.name != function.name]
    instructions = _HEADING.sub("", text(record, "instructions")).strip()
    doc = "".join(f"/// {line}".rstrip() + "\n" for line in instructions.splitlines())
    top = "".join(item.whole.strip() + "\n\n" for item in others)
    reference = None
    if solved is not None and solved.head.split() == function.head.split():
        known = {item.name for item in stub if item.name}
        rest = [item for item in solution if item is not solved and item.name not in known]
        reference = (
            solved.body.lstrip("\n").rstrip()
            + "\n}\n"
            + "".join(f"\n{item.whole}\n" for item in rest)
        )
        if foreign_paths(reference):
            reference = None
    prompt = top + doc + function.head + " {\n"
    tests, crates = _tests(slug, record.get("tests"))
    if foreign_paths(top + function.head) or foreign_paths(tests or "", crates):
        return
    yield Prompt(
        id=f"exercism/{slug}",
        prompt=prompt,
        language="rust",
        signature=" ".join(function.head.split()),
        tests=tests,
        reference=reference,
    )


def _only_function(stub: list[Item]) -> Item | None:
    functions = [item for item in stub if item.kind in ("function_item", "ERROR")]
    if len(functions) != 1 or any(item.kind == "impl_item" for item in stub):
        return None
    return functions[0]


def _tests(slug: str, files: object) -> tuple[str | None, set[str]]:
    """Test files as modules in which the crate's name stands for what is around them, and the names
    that the crate has there."""
    if not isinstance(files, dict) or not all(isinstance(v, str) for v in files.values()):
        raise BadTaskError(": field 'tests' is not an object of texts")
    names = (slug.replace("-", "_"), slug.replace("-", ""))
    modules = []
    for number, name in enumerate(sorted(files)):
        source = files[name]
        for pattern in (_ASSERTIONS, _IGNORED, _INNER):
            source = pattern.sub("", source)
        used = [crate for crate in dict.fromkeys(names) if re.search(rf"\b{crate}\b", source)]
        alias = "".join(f"mod {crate} {{\n    pub use super::super::*;\n}}\n" for crate in used)
        modules.append(f"\n#[cfg(test)]\nmod tests_{number} {{\n{alias}{source}}}\n")
    return "".join(modules) or None, set(names)


def checkout(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The exercises of a checkout of the track, as records; each with its folder's name.

    Raises OSError.
    """
    for place in sorted((folder / PRACTICE).iterdir()):
        stub = place / "src" / "lib.rs"
        instructions = place / ".docs" / "instructions.md"
        if not stub.is_file() or not instructions.is_file():
            continue
        solution = place / ".meta" / "example.rs"
        yield (
            place.name,
            {
                "slug": place.name,
                "instructions": _read(instructions),
                "stub": _read(stub),
                "solution": _read(solution) if solution.is_file() else None,
                "tests": {f"tests/{test.name}": _read(test) for test in place.glob("tests/*.rs")},
            },
        )


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")
