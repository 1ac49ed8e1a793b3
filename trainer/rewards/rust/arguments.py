"""Whether a function's result can depend on its arguments: a constant solves no task."""

from __future__ import annotations

import re

from tree_sitter import Node

from trainer.rewards.rust.tree import last_name, text_of, walk

_IN_STRINGS = re.compile(r"\{\s*([A-Za-z_]\w*)")  # format strings take variables: `{x:?}`
#: Calls that only make a value look used.
_SWALLOW = frozenset(("drop", "forget", "black_box"))
_TELLS = frozenset((
    "print", "println", "eprint", "eprintln", "dbg", "assert", "assert_eq", "assert_ne",
    "debug_assert", "debug_assert_eq", "debug_assert_ne",
))  # fmt: skip
#: Macros that only compute a value.
_COMPUTES = frozenset(("format", "format_args", "matches", "vec", "stringify", "concat"))
_NAMES = ("identifier", "self", "shorthand_field_identifier")


def parameter_names(function: Node) -> set[str]:
    """The variables that a function's parameters define."""
    parameters = function.child_by_field_name("parameters")
    found: set[str] = set()
    for one in parameters.named_children if parameters is not None else ():
        if one.type == "self_parameter":
            found.add("self")
        elif one.type == "parameter" and (pattern := one.child_by_field_name("pattern")):
            found |= {text_of(leaf) for leaf, _ in walk(pattern) if leaf.type in _NAMES}
    return found


def uses_arguments(function: Node) -> bool:
    """Whether a parameter occurs where it can matter; true for a function without parameters."""
    parameters = function.child_by_field_name("parameters")
    if parameters is None or not any(
        one.type in ("parameter", "self_parameter") for one in parameters.named_children
    ):
        return True
    body = function.child_by_field_name("body")
    # What only prints has printing for its result.
    prints = function.child_by_field_name("return_type") is None
    return body is not None and _occurs(body, parameter_names(function), prints)


def _occurs(body: Node, names: set[str], prints: bool) -> bool:
    skipped_to = -1
    for node, _ in walk(body):
        if node.start_byte < skipped_to:
            continue
        if _is_discarded(node, names) or (not prints and _only_tells(node)):
            skipped_to = node.end_byte
        elif node.type in _NAMES and text_of(node) in names:
            if not _is_defined_there(node):
                return True
        elif node.type in ("string_literal", "raw_string_literal"):
            if names & set(_IN_STRINGS.findall(text_of(node))):
                return True
            skipped_to = node.end_byte
    return False


def _is_discarded(node: Node, names: set[str]) -> bool:
    """Whether a statement uses a value without effect: `let y = x;`, `x;`, `drop(x);`.

    `y` is not used later.
    """
    if node.type == "let_declaration":
        pattern = node.child_by_field_name("pattern")
        value = node.child_by_field_name("value")
        simple = value is not None and not _has_effect(value)
        named = pattern is not None and pattern.type in ("identifier", "_")
        return named and simple and not _used_later(node, pattern)
    if node.type != "expression_statement" or not text_of(node).endswith(";"):
        return False
    inner = node.named_children[0] if node.named_children else None
    if inner is None:
        return False
    if inner.type == "call_expression":
        called = text_of(inner.child_by_field_name("function")).rpartition("::")[2]
        return called in _SWALLOW
    if inner.type == "assignment_expression":
        left = inner.child_by_field_name("left")
        right = inner.child_by_field_name("right")
        return text_of(left) == "_" or (text_of(left) in names and text_of(left) == text_of(right))
    return inner.type in (
        "identifier", "reference_expression", "tuple_expression", "unit_expression",
        "field_expression", "binary_expression", "parenthesized_expression",
    ) and not _has_effect(inner)  # fmt: skip


def _only_tells(node: Node) -> bool:
    """Whether a statement only prints or asserts something."""
    inner = node.named_children[0] if node.type == "expression_statement" else None
    if inner is None or inner.type != "macro_invocation":
        return False
    return text_of(inner.child_by_field_name("macro")).rpartition("::")[2] in _TELLS


def _has_effect(node: Node) -> bool:
    """Whether an expression may do more than compute a value."""
    return any(
        one.type
        in (
            "call_expression", "macro_invocation", "assignment_expression", "return_expression",
            "compound_assignment_expr", "try_expression", "break_expression",
        )
        and text_of(one.child_by_field_name("function")).rpartition("::")[2] not in _SWALLOW
        and not _only_reads(one)
        and not last_name(one.child_by_field_name("function"))[:1].isupper()  # `Some(x)`
        and text_of(one.child_by_field_name("macro")).rpartition("::")[2] not in _COMPUTES
        for one, _ in walk(node)
    )  # fmt: skip


def _only_reads(node: Node) -> bool:
    """Whether a call is of a method that changes nothing: `x.len()`, `x.clone()`."""
    called = node.child_by_field_name("function") if node.type == "call_expression" else None
    if called is None or called.type != "field_expression":
        return False
    name = text_of(called.child_by_field_name("field"))
    return name in ("clone", "len", "is_empty", "to_string", "to_owned", "to_vec", "iter", "abs")


def _used_later(node: Node, pattern: Node | None) -> bool:
    name = text_of(pattern)
    block = node.parent
    if name == "_" or block is None:
        return False
    return any(
        one.start_byte >= node.end_byte and one.type == "identifier" and text_of(one) == name
        for one, _ in walk(block)
    )


def _is_defined_there(node: Node) -> bool:
    """Whether a name is being defined, not read: `let x = 1;` says nothing about a parameter x."""
    parent = node.parent
    if parent is None:
        return False
    return (
        parent.type == "let_declaration" and parent.child_by_field_name("pattern") == node
    ) or parent.type in ("closure_parameters", "parameter")
