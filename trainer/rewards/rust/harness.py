"""A task's tests as a program of our own, which an answer can neither shadow nor talk for.

The tests become a module below the answer's, so what they define comes before what the answer
defines. Rust's own test harness is not used: its verdict is text on standard output and an exit
code, and an answer can write the one and end the process with the other. Ours reads a secret from
its standard input before any of the answer's code runs, and prints it beside the number of each
test that passed. The tests of each answer run in a process of their own, which the same program
starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tree_sitter import Node

from trainer.rewards.rust.tree import TreeParser, encoded, last_name, text_of

MODULE = "answer"  # with a number: of an answer
TESTS = "__trainer_tests"  # below it
CASES = "__trainer_cases"  # a function beside that: the tests, and whether they panic
SECRET = "secret"  # the name of the file

_STATEMENTS = frozenset(
    ("expression_statement", "let_declaration", "macro_invocation", "empty_statement")
)
_KNOWN_ROOTS = frozenset(("std", "core", "alloc", "self", "super", "crate"))

_MAIN = Path(__file__).with_name("harness.rs")


@dataclass(frozen=True)
class Test:
    """A test: its path below the module of tests, and whether it passes by panicking."""

    path: str
    panics: bool


@dataclass(frozen=True)
class Tests:
    """Tests as the text of a module, and their names in the order in which they run."""

    source: str
    names: tuple[Test, ...]


def prepare_tests(parser: TreeParser, text: str) -> Tests | None:
    """A task's tests for our harness; None if there is none in them.

    They are functions marked `#[test]`, at any depth of modules, or a `main` function, or plain
    statements. Tests marked `#[ignore]` run, too; those that depend on a feature do not.
    """
    text = encoded(text).decode()
    root = parser.parse(text).root_node
    if any(child.type in _STATEMENTS for child in root.named_children):
        text = f"#[test] fn statements() {{\n{text}\n}}"
        root = parser.parse(text).root_node
    edits = _Edits(text)
    found = list(_tests(root, "", edits))
    if not found:
        mains = [c for c in root.named_children if c.type == "function_item" and _name(c) == "main"]
        if not mains:
            return None
        edits.publish(mains[0])
        found = [Test("main", panics=False)]
    imports = "".join(f"use super as {name}; " for name in sorted(_crates(root)))
    source = f"pub mod {TESTS} {{ use super::*; {imports}\n{edits.done()}\n}}\n"
    return Tests(source + _cases(found), tuple(found))


def _cases(tests: Sequence[Test]) -> str:
    cases = ", ".join(
        f"(|| crate::Passed::passed({TESTS}::{test.path}()), {str(test.panics).lower()})"
        for test in tests
    )
    return f"pub fn {CASES}() -> &'static [(fn() -> bool, bool)] {{ &[{cases}] }}\n"


def main_source(tested: Sequence[bool]) -> str:
    """The program that runs the tests of the module whose number is its argument, if it has any."""
    modules = "".join(f"mod {MODULE}{place};\n" for place in range(len(tested)))
    arms = [
        f'        "{place}" => {MODULE}{place}::{CASES}(),'
        for place, has_tests in enumerate(tested)
        if has_tests
    ]
    text = _MAIN.read_text("utf-8").replace("/* modules */", modules)
    return text.replace("/* arms */", "\n".join(arms))


@dataclass(frozen=True)
class Ended:
    """How the tests of an answer ended, and the numbers of those that passed.

    `how` is `ended`, `slow` or `signal-` with its number.
    """

    how: str
    passed: frozenset[int]


def read_results(output: bytes, secret: str) -> dict[int, Ended]:
    """How the tests of each answer ended, by its number, from what the program wrote."""
    lines = re.findall(
        rb"(?m)^" + secret.encode() + rb" (\d+) (ended|slow|signal-\d+)((?: \d{1,6})*)$", output
    )
    return {
        int(number): Ended(how.decode(), frozenset(map(int, passed.split())))
        for number, how, passed in lines
    }


class _Edits:
    """Changes to a text that keep its lines."""

    def __init__(self, text: str) -> None:
        self._data = text.encode()
        self._changes: dict[int, tuple[int, bytes]] = {}  # start: end, instead

    def blank(self, node: Node) -> None:
        """Leave a node out."""
        lines = (node.text or b"").count(b"\n")
        self._changes[node.start_byte] = (node.end_byte, b"\n" * lines)

    def publish(self, item: Node) -> None:
        """Make an item public."""
        if not any(child.type == "visibility_modifier" for child in item.children):
            self._changes[item.start_byte] = (item.start_byte, b"pub ")

    def done(self) -> str:
        """The changed text."""
        data = self._data
        for start in sorted(self._changes, reverse=True):
            end, instead = self._changes[start]
            data = data[:start] + instead + data[end:]
        return data.decode()


def _tests(node: Node, path: str, edits: _Edits) -> list[Test]:
    """The tests among the items of a file or a module; their marks are removed."""
    found = []
    attributes: list[Node] = []
    for child in node.named_children:
        if child.type == "attribute_item":
            attributes.append(child)
            continue
        if child.type.endswith("comment"):
            continue
        marks = {_mark(one): one for one in attributes}
        attributes = []
        if child.type == "mod_item" and (body := child.child_by_field_name("body")):
            inside = _tests(body, f"{path}{_name(child)}::", edits)
            if inside:
                edits.publish(child)
                if "cfg" in marks:
                    edits.blank(marks["cfg"])
            found += inside
        elif child.type == "function_item" and "test" in marks and "cfg" not in marks:
            for mark in ("test", "ignore", "should_panic"):
                if mark in marks:
                    edits.blank(marks[mark])
            edits.publish(child)
            found.append(Test(path + _name(child), "should_panic" in marks))
    return found


def _mark(attribute: Node) -> str:
    inner = next((c for c in attribute.named_children if c.type == "attribute"), None)
    return last_name(inner.named_children[0]) if inner and inner.named_children else ""


def _name(item: Node) -> str:
    return text_of(item.child_by_field_name("name"))


def _crates(root: Node) -> set[str]:
    """Crates that the tests import: the answer's own, under whatever name."""
    own = {_name(child) for child in root.named_children}
    found = set()
    for child in root.named_children:
        if child.type == "use_declaration":
            words = re.findall(r"[A-Za-z_]\w*", text_of(child.child_by_field_name("argument")))
            if words and words[0] not in _KNOWN_ROOTS | own:
                found.add(words[0])
    return found
