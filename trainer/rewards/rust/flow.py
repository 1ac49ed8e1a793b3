"""Whether a function can ever return: a body that only panics, loops or calls itself cannot.

What is found out is what stands in the text: a condition is taken to go either way unless it can
only go one, and a function that the answer does not define is taken to return.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tree_sitter import Node

from trainer.rewards.rust.conditions import known, matches
from trainer.rewards.rust.functions import Functions
from trainer.rewards.rust.macros import Macros
from trainer.rewards.rust.tree import COMMENTS, ITEMS, last_name, text_of

PANICS = frozenset(("panic", "todo", "unimplemented", "unreachable", "compile_error"))
#: Functions of the standard library that never return.
ENDS = frozenset(("exit", "abort", "panic_any", "park", "resume_unwind", "unreachable_unchecked"))
#: Without an end; `for` over them does not return unless its body leaves.
ENDLESS = frozenset(("repeat", "repeat_with", "cycle", "successors"))
#: Methods that exist for the sake of the closure they are given.
_CALLS_CLOSURE = frozenset((
    "map", "and_then", "then", "for_each", "try_for_each", "fold", "try_fold", "flat_map",
    "filter_map", "map_while", "scan", "map_or_else", "with",
))  # fmt: skip
#: Levels of expressions. A program that is judged has fewer, but for those inside its macros.
_DEEPEST = 160
_QUIET = frozenset(("closure_expression", "async_block", "type_arguments", "token_tree")) | ITEMS


@dataclass(frozen=True)
class Stuck:
    """The keys of functions that never return; those of `anywhere` are methods that are no other
    type's, so that they do not return whatever they are called of.
    """

    keys: frozenset[str] = frozenset()
    anywhere: frozenset[str] = frozenset()


def stuck_functions(functions: Functions, macros: Macros) -> Stuck:
    """Those of a program that cannot return, for all that their text says.

    Methods of its traits are told from others of their name in a second round: a method that
    passes a call on to something else's of the same name has returned in the first.
    """
    first = _that_never_return(functions, macros, frozenset())
    anywhere = first & functions.of_traits
    keys = _that_never_return(functions, macros, anywhere) if anywhere else first
    return Stuck(keys, anywhere)


def _that_never_return(
    functions: Functions, macros: Macros, anywhere: frozenset[str]
) -> frozenset[str]:
    """Starts with all and takes functions out until nothing changes: functions that only call
    themselves or each other stay.
    """
    keys = frozenset(key for key, _ in functions.defined)
    while True:
        stuck = Stuck(keys, anywhere)
        more = {
            key
            for key, one in functions.defined
            if key in keys and Flow(functions, stuck, macros).returns(one)
        }
        if not more:
            return keys
        keys -= more


class Flow:
    """Follows the ways through one of `functions`. Calls of `stuck` ones do not return."""

    def __init__(self, functions: Functions, stuck: Stuck, macros: Macros, depth: int = 0) -> None:
        self._functions, self._stuck, self._macros = functions, stuck, macros
        self._depth = depth
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
        if self._depth == _DEEPEST:
            return False
        special = getattr(self, f"_{node.type}", None)
        self._depth += 1
        passed: bool = special(node) if special is not None else self._all(node.named_children)
        self._depth -= 1
        return passed

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
        value = node.child_by_field_name("value")
        passed = self._passed(value)
        if passed and (other := node.child_by_field_name("alternative")) is not None:
            left = self._passed(other)
            if matches(node.child_by_field_name("pattern"), value) is False:
                return left
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
        way = known(condition)
        if not self._passed(condition):
            return False
        if way is True:
            return self._endless(node)
        if way is None:
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
        way = known(condition)
        ways = [] if way is False else [self._passed(then)]
        if way is not True:
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
        arguments = self._macros.arguments(node)
        if name == "assert" and arguments and text_of(arguments[0]).strip("( );\n") == "false":
            return False
        return self._all(arguments) and name not in PANICS

    def _call_expression(self, node: Node) -> bool:
        called = node.child_by_field_name("function")
        given = node.child_by_field_name("arguments")
        if not self._all([n for n in (called, given) if n]):
            return False
        while called is not None and called.type == "parenthesized_expression":
            called = next((c for c in called.named_children if c.type not in COMMENTS), None)
        if called is not None and called.type == "closure_expression":
            return self._leaves(called)
        name = last_name(called)
        if name in _CALLS_CLOSURE and given is not None:
            closures = [c for c in given.named_children if c.type == "closure_expression"]
            if closures and not any(map(self._leaves, closures)):
                return False
        if called is not None and called.type == "field_expression":
            value = called.child_by_field_name("value")
            if name in ("unwrap", "expect") and _always(value, ("None", "Err")):
                return False
            if name in ("unwrap_err", "expect_err") and _always(value, ("Ok",)):
                return False
            if f"Self::{name}" in self._stuck.anywhere:
                return False
            return self._functions.key_of_method(name, value) not in self._stuck.keys
        return name not in ENDS and self._functions.key_of_path(called) not in self._stuck.keys

    def _leaves(self, closure: Node) -> bool:
        body = closure.child_by_field_name("body")
        inner = Flow(self._functions, self._stuck, self._macros, self._depth)
        return body is None or inner.leaves(body)


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
