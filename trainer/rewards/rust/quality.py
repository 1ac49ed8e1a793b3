"""What answers in Rust look like: idioms, error handling, documentation, complexity, nesting.

Counted in the syntax tree (tree-sitter), so that comments and strings count for nothing. Only what
the answer wrote counts: a head or a doc comment that the prompt gives says nothing about the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import tree_sitter_rust
from tree_sitter import Language, Node, Parser

from trainer.rewards.quality import Quality

MAX_BYTES = 1 << 18  # of a program; nothing is said about a longer one

#: Methods that only iterators have: `map` and `filter`, say, belong to `Option` as well.
_NAMES = (
    "all any chain chunk_by cloned collect copied count cycle enumerate filter_map find_map "
    "flat_map flatten fold for_each inspect last map_while max_by max_by_key min_by min_by_key "
    "nth partition peekable position product reduce rev rfold rposition scan skip skip_while "
    "step_by sum take_while try_fold try_for_each unzip"
)
ITERATOR_METHODS = frozenset(_NAMES.split())
ERROR_NAMES = frozenset(("Result", "Option", "Some", "None", "Ok", "Err"))
_BRANCHES = frozenset(("if_expression", "while_expression", "for_expression"))
_NESTED = _BRANCHES | {"loop_expression", "match_expression"}
_LAZY = frozenset(("&&", "||"))
_DOCS = ("///", "/**", "#[doc")
_BEFORE = frozenset(("line_comment", "block_comment", "attribute_item"))


def measure_rust(program: str, begin: int = 0) -> Quality | None:
    """The quality of what follows the first `begin` characters of `program`, which is whole.

    Complexity is McCabe's: 1, and 1 more for each `if`, `while`, `for`, `&&` and `||`, and each arm
    of a `match` after its first; what closures decide counts to their function. Nesting is the
    number of branches, loops and matches around the innermost one, itself included; `else if` adds
    no level. None for a program of more than 256 KiB.
    """
    raw = program.encode("utf-8", "replace")
    if len(raw) > MAX_BYTES:
        return None
    offset = len(program[:begin].encode("utf-8", "replace"))
    found = _Found(offset)
    for place in _walk(_parser().parse(raw).root_node):
        found.look(place)
    return found.quality()


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_rust.language()))


@dataclass(frozen=True)
class _Place:
    """A node, the function it is in (by where that begins) and its nesting in it; whether comments
    and attributes right before it document it, and make it a test."""

    node: Node
    function: int | None = None
    depth: int = 0
    is_documented: bool = False
    is_test: bool = False

    def children(self) -> Iterator[_Place]:
        """The nodes in it. Tree-sitter looks for parents and siblings from the root down, which
        would take a hostile program hours: both are remembered here."""
        is_else = self.node.type == "else_clause"
        documented = test = False
        for child in self.node.children:
            function, depth = self.function, self.depth
            if child.type == "function_item":
                function, depth = child.start_byte, 0
            elif child.type in _NESTED and not is_else:
                depth += 1
            yield _Place(child, function, depth, documented, test)
            text = _text(child) if child.type in _BEFORE else None
            documented = text is not None and (documented or text.startswith(_DOCS))
            test = text is not None and (test or text.startswith("#[test]"))


def _walk(root: Node) -> Iterator[_Place]:
    """Every node in the order of the text, without recursion: brackets may nest thousandfold."""
    waiting = [_Place(root)]
    while waiting:
        place = waiting.pop()
        yield place
        waiting.extend(reversed(list(place.children())))


class _Found:
    """What has been seen of a program, behind the first `offset` bytes."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._complexity: dict[int, int] = {}
        self._nesting: dict[int, int] = {}
        self._own = self._documented = 0
        self._seen: set[str] = set()

    def look(self, place: _Place) -> None:
        node, function = place.node, place.function
        if node.end_byte <= self._offset:
            return
        if node.type == "function_item" and not place.is_test:
            self._complexity[node.start_byte] = 1
            self._nesting[node.start_byte] = 0
            if node.start_byte >= self._offset:
                self._own += 1
                self._documented += place.is_documented
        if node.start_byte < self._offset:
            return
        if function in self._complexity:
            self._complexity[function] += _decisions(node)
            self._nesting[function] = max(self._nesting[function], place.depth)
        self._idioms(node)

    def _idioms(self, node: Node) -> None:
        kind = node.type
        if kind == "closure_expression":
            self._seen.add("closures")
        elif kind == "match_expression":
            self._seen.add("match")
        elif kind == "try_expression" or (
            kind in ("identifier", "type_identifier") and _text(node) in ERROR_NAMES
        ):
            self._seen.add("errors")
        elif kind == "call_expression" and _method(node) in ITERATOR_METHODS:
            self._seen.add("iterators")

    def quality(self) -> Quality:
        return Quality(
            functions=len(self._complexity),
            own_functions=self._own,
            documented=self._documented,
            complexity=sum(self._complexity.values()),
            nesting=sum(self._nesting.values()),
            iterators="iterators" in self._seen,
            closures="closures" in self._seen,
            match="match" in self._seen,
            error_handling="errors" in self._seen,
        )


def _decisions(node: Node) -> int:
    """The branches that this node by itself adds."""
    if node.type == "match_block":
        return max(0, sum(child.type == "match_arm" for child in node.children) - 1)
    return int(node.type in _BRANCHES or node.type in _LAZY)


def _method(call: Node) -> str:
    """The name of the method that is called, as in `x.name()` or `x.name::<T>()`; else nothing."""
    called = call.child_by_field_name("function")
    if called is not None and called.type == "generic_function":
        called = called.child_by_field_name("function")
    field = called.child_by_field_name("field") if called is not None else None
    return _text(field) if field is not None else ""


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
