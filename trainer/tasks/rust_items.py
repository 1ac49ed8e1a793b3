"""The items of a Rust file: functions, types, imports, and the module with its tests."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_LEADING = frozenset(("line_comment", "block_comment", "attribute_item"))
_NAMES = frozenset(
    ("identifier", "type_identifier", "field_identifier", "shorthand_field_identifier")
)
#: The first name of a path, such as `rand` of `use rand::Rng;`, where no other name is before it.
_PATH = re.compile(r"(?<![\w:.'])(?:::)?([a-z_]\w*)::(?!<)")
_IMPORT = re.compile(r"\buse\s+(?:::)?([a-z_]\w*)")
_ALIAS = re.compile(r"\bas\s+([a-z_]\w*)\s*[;,}]")
#: What may hold a name that is none: comments, texts, characters.
_PLAIN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|"(?:[^"\\]|\\.)*"|'(?:[^'\\\n]|\\.)'""", re.DOTALL
)
_SIZES = ("8", "16", "32", "64", "128", "size")
_BUILT_IN = frozenset(
    (
        *("std", "core", "alloc", "self", "super", "crate"),
        *("str", "char", "bool", "f32", "f64"),
        *(sign + size for sign in "iu" for size in _SIZES),
        *("rustfmt", "clippy"),  # in attributes
    )
)
MAX_BYTES = 2 * 1024 * 1024  # of a file that is parsed


@dataclass(frozen=True)
class Item:
    """An item with the comments and attributes before it.

    `names` are those it defines, `uses` those that occur in it. A function also has its `head`, up
    to its brace, and its `body`, between the braces; of an item with an error both are empty.
    """

    kind: str
    leading: str
    text: str
    names: frozenset[str]
    uses: frozenset[str]
    head: str = ""
    body: str = ""

    @property
    def name(self) -> str:
        """Its only name; empty for those with another number of names."""
        return next(iter(self.names)) if len(self.names) == 1 else ""

    @property
    def whole(self) -> str:
        """Its text with what is before it."""
        return self.leading + self.text

    @property
    def is_documented(self) -> bool:
        """Whether it has a doc comment."""
        return any(line.lstrip().startswith("///") for line in self.leading.splitlines())

    @property
    def is_tests(self) -> bool:
        """Whether it is a module that only tests have."""
        return self.kind == "mod_item" and "cfg(test)" in self.leading.replace(" ", "")


def items_of(source: str) -> list[Item]:
    """The items of a file, in their order. What is no item (inner comments) is left out."""
    data = source.encode("utf-8", "replace")[:MAX_BYTES]
    return list(_items(data, _parser().parse(data).root_node))


def foreign_paths(source: str, known: Container[str] = ()) -> set[str]:
    """The crates and modules that code takes names from, but for the standard library and `known`.

    Modules that the standard library's paths import, such as `fmt` of `use std::fmt;`, count as
    known when the import is part of `source`.
    """
    plain = _PLAIN.sub("", source)
    found = {*_PATH.findall(plain), *_IMPORT.findall(plain)} - {*_ALIAS.findall(plain)}
    imports = [item for item in items_of(source) if item.kind == "use_declaration"]
    found -= {name for item in imports for name in item.names}
    return {name for name in found if name not in _BUILT_IN and name not in known}


@cache
def _parser() -> Parser:
    import tree_sitter_rust
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_rust.language()))


def _items(data: bytes, root: Node) -> Iterator[Item]:
    leading: list[Node] = []
    for node in root.children:
        if node.type in _LEADING:
            if not _is_inner(data, node):
                leading.append(node)
            continue
        if node.type == "inner_attribute_item":
            continue
        before = leading if leading and not _is_apart(data, leading[-1], node) else []
        yield _item(data, node, before)
        leading = []


def _is_inner(data: bytes, node: Node) -> bool:
    """Whether a comment is about the file, such as `//!`."""
    return data[node.start_byte : node.start_byte + 3] in (b"//!", b"/*!")


def _is_apart(data: bytes, comment: Node, node: Node) -> bool:
    """Whether an empty line divides a comment from an item."""
    return data[comment.end_byte : node.start_byte].count(b"\n") > 1


def _item(data: bytes, node: Node, leading: list[Node]) -> Item:
    body = node.child_by_field_name("body") if node.type == "function_item" else None
    sound = not node.has_error
    start = leading[0].start_byte if leading else node.start_byte
    return Item(
        kind=node.type,
        leading=_text(data, start, node.start_byte),
        text=_text(data, node.start_byte, node.end_byte),
        names=frozenset(_defined(data, node)),
        uses=frozenset(_leaves(data, node)),
        head=_text(data, node.start_byte, body.start_byte).rstrip() if body and sound else "",
        body=_text(data, body.start_byte + 1, body.end_byte - 1) if body and sound else "",
    )


def _defined(data: bytes, node: Node) -> Iterator[str]:
    if node.type == "use_declaration":
        yield from _imported(data, node)
        return
    name = node.child_by_field_name("name")
    if name is not None:
        yield _text(data, name.start_byte, name.end_byte)


def _imported(data: bytes, use: Node) -> Iterator[str]:
    """What an import brings: `Ordering` of `use std::cmp::Ordering;`, `*` for all of a module."""
    stack = [use]
    while stack:
        node = stack.pop()
        if node.type == "use_as_clause":
            alias = node.child_by_field_name("alias")
            stack += [alias] if alias is not None else []
        elif node.type == "scoped_identifier":
            name = node.child_by_field_name("name")
            stack += [name] if name is not None else []
        elif node.type == "scoped_use_list":
            listed = node.child_by_field_name("list")
            stack += [listed] if listed is not None else []
        elif node.type == "use_wildcard":
            yield "*"
        elif node.type in ("identifier", "self", "crate"):
            yield _text(data, node.start_byte, node.end_byte)
        else:
            stack += node.named_children


def _leaves(data: bytes, node: Node) -> Iterator[str]:
    """Every name that occurs in a node, the words of macros included."""
    stack = [node]
    while stack:
        inner = stack.pop()
        if inner.type in _NAMES:
            yield _text(data, inner.start_byte, inner.end_byte)
        elif inner.type in ("crate", "super"):
            yield inner.type
        else:
            stack += inner.children


def _text(data: bytes, start: int, end: int) -> str:
    return data[start:end].decode("utf-8", "replace")
