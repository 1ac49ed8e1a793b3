"""Whether a function can ever return: a body that only panics, loops or calls itself cannot.

What is found out is what stands in the text: a condition is taken to go either way unless it is
`true` or `false`, and a function that the answer does not define is taken to return.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tree_sitter import Node

from trainer.rewards.rust.tree import COMMENTS, ITEMS, last_name, text_of, walk

PANICS = frozenset(("panic", "todo", "unimplemented", "unreachable", "compile_error"))
#: Functions of the standard library that never return.
ENDS = frozenset(("exit", "abort", "panic_any", "resume_unwind", "unreachable_unchecked"))
#: Without an end; `for` over them does not return unless its body leaves.
ENDLESS = frozenset(("repeat", "repeat_with", "cycle", "successors"))
_QUIET = frozenset(("closure_expression", "async_block", "type_arguments", "token_tree")) | ITEMS


def key_of(function: Node) -> str:
    """How calls name a function: `f`, or `Self::f` if it belongs to a type or a trait."""
    name = text_of(function.child_by_field_name("name"))
    around = function.parent
    while around is not None and around.type not in ("function_item", "mod_item"):
        if around.type in ("impl_item", "trait_item"):
            return f"Self::{name}"
        around = around.parent
    return name


def that_return(functions: Sequence[Node]) -> set[str]:
    """The keys of the functions of a program that can return, for all that their text says.

    Starts with none and adds functions until nothing changes: functions that only call themselves
    or each other are never added.
    """
    defined = [(key_of(one), one) for one in functions]
    for one in functions:
        defined += _closures(one)
    keys = {key for key, _ in defined}
    found: set[str] = set()
    while True:
        stuck = keys - found
        more = {key for key, one in defined if key in stuck and Flow(stuck).returns(one)}
        if not more:
            return found
        found |= more


def _closures(function: Node) -> list[tuple[str, Node]]:
    """The closures that a function gives a name, under that name."""
    found = []
    for node, _ in walk(function):
        if node.type == "let_declaration":
            value = node.child_by_field_name("value")
            if value is not None and value.type == "closure_expression":
                found.append((text_of(node.child_by_field_name("pattern")), value))
    return found


class Flow:
    """Follows the ways through a function. Calls of the functions in `stuck` do not return."""

    def __init__(self, stuck: set[str]) -> None:
        self._stuck = stuck
        self._returned = False
        self._loops: list[tuple[str, bool]] = []  # label, and whether a break was met
        #: The first thing after something that is never passed.
        self.dead: Node | None = None

    def returns(self, function: Node) -> bool:
        """Whether there is a way to the function's end, or to a `return`."""
        body = function.child_by_field_name("body")
        return body is not None and self.leaves(body)

    def leaves(self, body: Node) -> bool:
        """The same of the body of a function or a closure."""
        passed = self._passed(body)
        return passed or self._returned

    def _passed(self, node: Node | None) -> bool:
        """Whether there is a way through `node` to what follows it."""
        if node is None or node.type in COMMENTS or node.type in _QUIET:
            return True
        special = getattr(self, f"_{node.type}", None)
        return special(node) if special is not None else self._all(node.named_children)

    def _all(self, nodes: Sequence[Node]) -> bool:
        """One after the other; what comes after one that is never passed is not reached."""
        return all(self._passed(node) for node in nodes)

    # -- statements --------------------------------------------------------------------------

    def _block(self, node: Node) -> bool:
        label = next((text_of(c) for c in node.children if c.type == "label"), None)
        if label is not None:
            self._loops.append((label, False))
        passed = True
        for child in node.named_children:
            if child.type in COMMENTS or child.type in ITEMS or child.type == "label":
                continue
            if not passed:
                if child.type != "empty_statement" and self.dead is None:
                    self.dead = child
                break
            passed = self._passed(child)
        if label is not None:
            passed |= self._loops.pop()[1]
        return passed

    def _let_declaration(self, node: Node) -> bool:
        passed = self._passed(node.child_by_field_name("value"))
        if passed and (other := node.child_by_field_name("alternative")) is not None:
            self._passed(other)
        return passed

    # -- jumps -------------------------------------------------------------------------------

    def _return_expression(self, node: Node) -> bool:
        if self._all(node.named_children):
            self._returned = True
        return False

    def _break_expression(self, node: Node) -> bool:
        values = [child for child in node.named_children if child.type != "label"]
        if self._all(values) and self._loops:
            label = next((text_of(c) for c in node.children if c.type == "label"), None)
            for place in range(len(self._loops) - 1, -1, -1):
                if label is None or self._loops[place][0] == label:
                    self._loops[place] = (self._loops[place][0], True)
                    break
        return False

    def _continue_expression(self, _node: Node) -> bool:
        return False

    def _try_expression(self, node: Node) -> bool:
        passed = self._all(node.named_children)
        self._returned |= passed
        return passed

    # -- loops and choices -------------------------------------------------------------------

    def _loop_expression(self, node: Node) -> bool:
        return self._endless(node)

    def _while_expression(self, node: Node) -> bool:
        condition = node.child_by_field_name("condition")
        if text_of(condition) == "true":
            return self._endless(node)
        if not self._passed(condition):
            return False
        if text_of(condition) != "false":
            self._endless(node)
        return True

    def _for_expression(self, node: Node) -> bool:
        value = node.child_by_field_name("value")
        if not self._passed(value):
            return False
        broken = self._endless(node)
        return broken or not _is_endless(value)

    def _endless(self, node: Node) -> bool:
        """A loop that only a `break` leaves."""
        label = next((text_of(c) for c in node.children if c.type == "label"), "")
        self._loops.append((label, False))
        self._passed(node.child_by_field_name("body"))
        return self._loops.pop()[1]

    def _if_expression(self, node: Node) -> bool:
        condition = node.child_by_field_name("condition")
        if not self._passed(condition):
            return False
        then, other = (node.child_by_field_name(n) for n in ("consequence", "alternative"))
        known = text_of(condition)
        ways = [] if known == "false" else [self._passed(then)]
        if known != "true":
            ways.append(self._passed(other))  # an `else` that is missing is passed
        return any(ways)

    def _match_expression(self, node: Node) -> bool:
        if not self._passed(node.child_by_field_name("value")):
            return False
        body = node.child_by_field_name("body")
        arms = [c for c in body.named_children if c.type == "match_arm"] if body else []
        ways = [self._passed(arm.child_by_field_name("value")) for arm in arms]
        return any(ways)

    def _binary_expression(self, node: Node) -> bool:
        left, right = (node.child_by_field_name(side) for side in ("left", "right"))
        if text_of(node.child_by_field_name("operator")) in ("&&", "||"):
            passed = self._passed(left)
            if passed:
                self._passed(right)
            return passed
        return self._passed(left) and self._passed(right)

    # -- calls -------------------------------------------------------------------------------

    def _macro_invocation(self, node: Node) -> bool:
        name = last_name(node.child_by_field_name("macro"))
        if name == "assert":
            tree = next((c for c in node.children if c.type == "token_tree"), None)
            return text_of(tree)[1:-1].strip().partition(",")[0].strip() != "false"
        return name not in PANICS

    def _call_expression(self, node: Node) -> bool:
        called = node.child_by_field_name("function")
        if not self._all([n for n in (called, node.child_by_field_name("arguments")) if n]):
            return False
        while called is not None and called.type == "parenthesized_expression":
            called = next((c for c in called.named_children if c.type not in COMMENTS), None)
        if called is not None and called.type == "closure_expression":
            body = called.child_by_field_name("body")
            return body is None or Flow(self._stuck).leaves(body)
        name = last_name(called)
        if called is not None and called.type == "field_expression":
            value = called.child_by_field_name("value")
            if name in ("unwrap", "expect") and _always(value, ("None", "Err")):
                return False
            if name in ("unwrap_err", "expect_err") and _always(value, ("Ok",)):
                return False
            return text_of(value) != "self" or f"Self::{name}" not in self._stuck
        return name not in ENDS and _key_called(called) not in self._stuck


def _key_called(called: Node | None) -> str:
    """The key of the function that a path calls; empty for one of a type or another module."""
    if called is not None and called.type == "generic_function":
        called = called.child_by_field_name("function")
    path = re.sub(r"\s", "", text_of(called)) if called is not None else ""
    before, _, name = path.rpartition("::")
    if before == "Self":
        return path
    return name if before in ("", "self", "super") else ""


def _always(node: Node | None, names: tuple[str, ...]) -> bool:
    """Whether an expression is one of these variants."""
    if node is not None and node.type == "call_expression":
        node = node.child_by_field_name("function")
    if node is not None and node.type == "generic_function":
        node = node.child_by_field_name("function")
    return last_name(node) in names


def _is_endless(value: Node | None) -> bool:
    """Whether an expression is a range without an end, or an iterator that has none."""
    if value is None:
        return False
    if value.type == "parenthesized_expression":
        return any(_is_endless(child) for child in value.named_children)
    if value.type == "range_expression":
        return value.children[-1].type in ("..", "..=")
    if value.type == "call_expression":
        return last_name(value.child_by_field_name("function")) in ENDLESS
    return False
