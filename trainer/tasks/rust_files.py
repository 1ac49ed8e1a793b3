"""Rust files as tasks: each documented function that stands alone and is tested in its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.tasks.prompt import Prompt
from trainer.tasks.records import text, text_if_any
from trainer.tasks.rust_items import Item, foreign_paths, items_of

#: Crates that are there without cargo.
_STANDARD = ("std::", "core::", "alloc::")


def is_rust_file(record: Mapping[str, Any]) -> bool:
    """Whether a record is a Rust file: its `text`, and the `path` it had."""
    path = record.get("path")
    return "text" in record and isinstance(path, str) and path.endswith(".rs")


def rust_file(record: Mapping[str, Any]) -> Iterator[Prompt]:
    """The tasks in a Rust file. Raises BadTaskError."""
    path = text(record, "path")
    repository = text_if_any(record, "repo")
    name = f"{repository}/{path}" if repository else path
    items = items_of(text_if_any(record, "text") or "")
    for item in items:
        task = _task(name, item, items)
        if task is not None:
            yield task


def _task(file: str, function: Item, items: Sequence[Item]) -> Prompt | None:
    """The task to write a function; None unless it is documented, tested, and needs nothing but
    the standard library."""
    tests = [item for item in items if item.is_tests]
    if not function.head or not function.is_documented or function.is_tests:
        return None
    if not any(function.name in item.uses for item in tests):
        return None
    others = [item for item in items if item is not function and not item.is_tests]
    # What tests and the functions beside them need; the function itself may need only imports.
    needed = _needed(tests, others, function)
    imports = [item for item in others if item.kind == "use_declaration"]
    # An import that no item names is of a trait, or of all that a module has.
    named = {name for item in items if item.kind != "use_declaration" for name in item.uses}
    own = [item for item in imports if item.names & function.uses or not item.names & named]
    defined = {name for item in others if item.kind != "use_declaration" for name in item.names}
    if defined & function.uses or not all(map(_is_standard, [*own, *needed])):
        return None
    if any("crate" in item.uses for item in (function, *needed, *tests)):
        return None
    hidden = [item for item in [*needed, *tests] if item not in own]
    top = "".join(item.text + "\n" for item in own)
    if foreign_paths("".join(item.text for item in (*own, function, *hidden))):
        return None
    return Prompt(
        id=f"{file}::{function.name}",
        prompt=(top + "\n" if top else "") + function.leading + function.head + " {\n",
        language="rust",
        signature=" ".join(function.head.split()),
        tests="\n" + "\n\n".join(item.whole for item in hidden) + "\n",
        reference=function.body.lstrip("\n").rstrip() + "\n}\n",
    )


def _needed(tests: Sequence[Item], others: Sequence[Item], function: Item) -> list[Item]:
    """Of the other items of a file, those that the tests need, and those that these need."""
    found: list[Item] = []
    wanted = {name for item in tests for name in item.uses} - {function.name}
    while True:
        more = [
            item
            for item in others
            if item not in found and (item.names & wanted or _is_wanted_impl(item, found))
        ]
        if not more:
            return [item for item in others if item in found]
        found += more
        wanted |= {name for item in more for name in item.uses}


def _is_wanted_impl(item: Item, found: Sequence[Item]) -> bool:
    """Whether an item implements something for a type that is there."""
    if item.kind != "impl_item":
        return item.names == {"*"}
    return any(other.name in item.uses for other in found if other.kind != "use_declaration")


def _is_standard(item: Item) -> bool:
    """Whether an import is of the standard library; so is every item that is no import."""
    if item.kind != "use_declaration":
        return True
    path = item.text.split("use", 1)[1].strip().removeprefix("::")
    return path.startswith(_STANDARD)
