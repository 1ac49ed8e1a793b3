"""The arguments of macros, which to a parser are nothing but tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tree_sitter import Node

from trainer.rewards.rust.lexing import tokens
from trainer.rewards.rust.tree import TreeParser, last_name, text_of

#: Macros of the standard library that evaluate all they are given.
_EVALUATES = frozenset((
    "assert", "assert_eq", "assert_ne", "dbg", "debug_assert", "debug_assert_eq",
    "debug_assert_ne", "eprint", "eprintln", "format", "format_args", "matches", "panic", "print",
    "println", "unreachable", "vec", "write", "writeln",
))  # fmt: skip
_DEPTH = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_REMEMBERED = 512


class Macros:
    """Reads arguments of macros as expressions. Not to be used by two threads at once."""

    def __init__(self, parser: TreeParser) -> None:
        self._parser = parser
        self._known = lru_cache(_REMEMBERED)(self._read)

    def arguments(self, invocation: Node) -> Sequence[Node]:
        """What a macro evaluates, in its order; what is no expression, such as a pattern, is left
        out.
        """
        if last_name(invocation.child_by_field_name("macro")) not in _EVALUATES:
            return ()
        tree = next((c for c in invocation.children if c.type == "token_tree"), None)
        return self._known(text_of(tree)[1:-1]) if tree is not None else ()

    def _read(self, text: str) -> Sequence[Node]:
        """Of one call, or of a list; else of the parts that are expressions by themselves."""
        for whole in (f"m({text}\n)", f"[{text}\n]"):
            found = self._expression(whole)
            if found is not None:
                inside = found.child_by_field_name("arguments") or found
                return tuple(inside.named_children)
        parts = (self._expression(f"({part}\n)") for part in _parts(text))
        return tuple(part for part in parts if part is not None)

    def _expression(self, text: str) -> Node | None:
        root = self._parser.parse(f"fn m() {{ {text}; }}").root_node
        body = root.named_children[0].child_by_field_name("body") if root.named_children else None
        if root.has_error or len(root.named_children) != 1 or body is None:
            return None
        statement = body.named_children[0] if len(body.named_children) == 1 else None
        return statement.named_children[0] if statement and statement.named_children else None


def _parts(text: str) -> Sequence[str]:
    """The text between commas and semicolons that are in no delimiters."""
    found, depth, start = [], 0, 0
    for token in tokens(text):
        sign = text[token.start : token.end] if token.kind == "sign" else ""
        depth += _DEPTH.get(sign, 0)
        if depth == 0 and sign in (",", ";") and sign:
            found.append(text[start : token.start])
            start = token.end
    found.append(text[start:])
    return [part for part in found if part.strip()]
