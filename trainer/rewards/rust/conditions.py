"""Conditions that can only go one way: `true`, `1 < 2`, `a == a`, `let Some(x) = None`."""

from __future__ import annotations

from tree_sitter import Node

from trainer.rewards.rust.names import VARIANTS
from trainer.rewards.rust.tree import last_name, text_of

_SAME = {"==": True, "<=": True, ">=": True, "!=": False, "<": False, ">": False}
_COMPARED = frozenset(("identifier", "integer_literal", "string_literal", "char_literal", "self"))


def known(condition: Node | None) -> bool | None:
    """Which way a condition goes, as far as its text tells; None for either."""
    if condition is None:
        return None
    if condition.type == "boolean_literal":
        return text_of(condition) == "true"
    if condition.type == "parenthesized_expression":
        return known(condition.named_children[0]) if len(condition.named_children) == 1 else None
    if condition.type == "unary_expression" and text_of(condition).startswith("!"):
        inner = known(condition.named_children[-1])
        return None if inner is None else not inner
    if condition.type == "binary_expression":
        return _compared(condition)
    if condition.type == "let_condition":
        pattern, value = (condition.child_by_field_name(name) for name in ("pattern", "value"))
        return matches(pattern, value)
    return None


def matches(pattern: Node | None, value: Node | None) -> bool | None:
    """Whether a value is one of a pattern's; None if the text does not tell."""
    if pattern is None or value is None:
        return None
    if pattern.type == "_" or (pattern.type == "identifier" and not text_of(pattern)[:1].isupper()):
        return True
    asked, given = _variant(pattern), _variant(value)
    if asked and given and asked != given:
        return False
    return None


def _variant(node: Node) -> str:
    """Which of `Some`, `None`, `Ok` and `Err` a pattern or an expression is, or neither."""
    inner = node
    if node.type == "call_expression":
        inner = node.child_by_field_name("function") or node
    elif node.type == "tuple_struct_pattern":
        inner = node.child_by_field_name("type") or node
    name = last_name(inner)
    return name if name in VARIANTS else ""


def _compared(condition: Node) -> bool | None:
    left, right = (condition.child_by_field_name(side) for side in ("left", "right"))
    sign = text_of(condition.child_by_field_name("operator"))
    if left is None or right is None or sign not in _SAME:
        return None
    if left.type not in _COMPARED or right.type not in _COMPARED:
        return None
    one, other = text_of(left), text_of(right)
    if one == other:
        return _SAME[sign]
    if not (one.isdecimal() and other.isdecimal()):
        return None
    a, b = int(one), int(other)
    return {
        "==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b,
    }[sign]  # fmt: skip
