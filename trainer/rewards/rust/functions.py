"""The functions that a program defines, and by which names it calls them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tree_sitter import Node

from trainer.rewards.rust.tree import functions, last_name, name_in, text_of, walk

_TYPES = frozenset(("struct_item", "enum_item", "union_item", "trait_item"))


def key_of(function: Node) -> str:
    """How calls name a function: `f`, or `Self::f` if it belongs to a type or a trait."""
    name = name_in(function.child_by_field_name("name"))
    around = function.parent
    while around is not None and around.type not in ("function_item", "mod_item"):
        if around.type in ("impl_item", "trait_item"):
            return f"Self::{name}"
        around = around.parent
    return name


class Functions:
    """Those below `root`, and the closures that they give a name."""

    def __init__(self, root: Node) -> None:
        self.all: Sequence[Node] = functions(root)
        #: Each under its key; several may have the same.
        self.defined = [(key_of(one), one) for one in self.all]
        #: Types and traits of the program, and variables that hold something of them.
        self._own: set[str] = set()
        #: Methods of the program's own traits, whose receiver may be anything.
        self.of_traits: set[str] = set()
        for node, _ in walk(root):
            name = name_in(node.child_by_field_name("name"))
            if node.type in _TYPES:
                self._own.add(name)
            elif node.type == "let_declaration":
                self._take_variable(node)
            elif node.type in ("function_item", "function_signature_item"):
                around = node.parent.parent if node.parent is not None else None
                if around is not None and around.type == "trait_item":
                    self.of_traits.add(f"Self::{name}")

    def _take_variable(self, node: Node) -> None:
        pattern, value = (node.child_by_field_name(name) for name in ("pattern", "value"))
        if value is None:
            return
        if value.type == "closure_expression":
            self.defined.append((text_of(pattern), value))
        elif _first_name(value) in self._own:
            self._own.add(text_of(pattern))

    def key_of_path(self, called: Node | None) -> str:
        """The key of the function that a path calls; empty for one of another crate's."""
        if called is not None and called.type == "generic_function":
            called = called.child_by_field_name("function")
        before, _, name = re.sub(r"\s|\br#", "", text_of(called)).rpartition("::")
        if before == "Self" or _last_of(before) in self._own:
            return f"Self::{name}"
        return name if before in ("", "self", "super") else ""

    def key_of_method(self, name: str, of: Node | None) -> str:
        """The key of a method that is called of something of the program; empty for a method of
        anything else.
        """
        own = text_of(of) == "self" or (of is not None and _first_name(of) in self._own)
        return f"Self::{name}" if own else ""


def _last_of(path: str) -> str:
    """The last segment of a path's text, without its parameters."""
    return path.rpartition("::")[2].partition("<")[0]


def _first_name(expression: Node) -> str:
    """The name that an expression begins with: `S` of `S`, `S {..}`, `S(1)` and `S::new()`."""
    node: Node | None = expression
    while node is not None and node.type not in ("identifier", "type_identifier"):
        if node.type in ("reference_expression", "parenthesized_expression"):
            node = node.named_children[-1] if node.named_children else None
        elif node.type in ("call_expression", "struct_expression"):
            node = node.child_by_field_name("function") or node.child_by_field_name("name")
        elif node.type in ("scoped_identifier", "scoped_type_identifier"):
            node = node.child_by_field_name("path")
        elif node.type in ("generic_function", "generic_type", "generic_type_with_turbofish"):
            return last_name(node)
        else:
            return ""
    return text_of(node)
