"""Syntax trees of Rust, by tree-sitter, which also makes a tree of what is no Rust."""

from __future__ import annotations

from collections.abc import Iterator

import tree_sitter_rust
from tree_sitter import Language, Node, Parser, Tree

DEEPEST = 120  # levels of a tree, walked by recursion; real programs have 30

#: Definitions, which do nothing where they stand.
# fmt: off
ITEMS = frozenset((
    "attribute_item", "const_item", "enum_item", "extern_crate_declaration", "foreign_mod_item",
    "function_item", "function_signature_item", "impl_item", "inner_attribute_item",
    "macro_definition", "mod_item", "static_item", "struct_item", "trait_item", "type_item",
    "union_item", "use_declaration",
))
# fmt: on
COMMENTS = frozenset(("line_comment", "block_comment"))


def encoded(text: str) -> bytes:
    """Text as UTF-8, without what that cannot hold."""
    return text.encode("utf-8", "replace")


class TreeParser:
    """Parses Rust. Not to be used by two threads at once."""

    def __init__(self) -> None:
        self._parser = Parser(Language(tree_sitter_rust.language()))

    def parse(self, source: str | bytes) -> Tree:
        """The tree of a text; places in it count bytes of UTF-8."""
        return self._parser.parse(encoded(source) if isinstance(source, str) else source)


def walk(node: Node) -> Iterator[tuple[Node, int]]:
    """Every node below `node`, and itself, in the order of the text, with its depth."""
    cursor = node.walk()
    depth = 0
    while True:
        current = cursor.node
        assert current is not None
        yield current, depth
        if cursor.goto_first_child():
            depth += 1
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return
            depth -= 1


def text_of(node: Node | None) -> str:
    """The text of a node; empty for none."""
    return (node.text or b"").decode(errors="replace") if node is not None else ""


def name_in(node: Node | None) -> str:
    """The name that a node is: `x` of `r#x`."""
    return text_of(node).removeprefix("r#")


def leaves(node: Node) -> list[Node]:
    """The tokens of a tree without its comments. A string is one token."""
    found = []
    inside_of = -1  # a byte: what starts before it belongs to a comment or a string
    for one, _ in walk(node):
        if one.start_byte < inside_of:
            continue
        if one.type in COMMENTS or one.type in ("string_literal", "raw_string_literal"):
            inside_of = one.end_byte
            if one.type not in COMMENTS:
                found.append(one)
        elif one.child_count == 0 and one.end_byte > one.start_byte:
            found.append(one)
    return found


def functions(node: Node) -> list[Node]:
    """All functions with a body, in the order of the text."""
    return [one for one, _ in walk(node) if one.type == "function_item"]


def last_name(node: Node | None) -> str:
    """The last segment of a path: `exit` of `std::process::exit::<T>` and of `r#exit`."""
    while node is not None:
        if node.type in ("identifier", "type_identifier", "field_identifier", "self"):
            return name_in(node)
        if node.type in ("scoped_identifier", "scoped_type_identifier"):
            node = node.child_by_field_name("name")
        elif node.type == "generic_function":
            node = node.child_by_field_name("function")
        elif node.type in ("generic_type", "generic_type_with_turbofish"):
            node = node.child_by_field_name("type")
        elif node.type == "field_expression":
            node = node.child_by_field_name("field")
        else:
            return ""
    return ""
