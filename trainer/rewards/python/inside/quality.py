"""Says what Python code looks like, in the sandbox: idioms, documentation, complexity, nesting.

`asked.json` has a list of programs; standard output has a line of JSON for each, in their order.
Only what lies behind the first `given` characters counts.
"""

from __future__ import annotations

import ast
import json
import warnings

TYPE_CHECKING = False  # typing takes longer to import than all else
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_BRANCHES = (ast.If, ast.IfExp, ast.ExceptHandler, *_LOOPS)
_NESTED = (ast.If, ast.Match, ast.Try, *_LOOPS)
_TRIES = (ast.Try, ast.Raise, *([ast.TryStar] if hasattr(ast, "TryStar") else []))
#: Built-in functions that take iterators, and that loops are often written in place of.
_NAMES = "all any enumerate filter iter map next reversed sorted sum zip"
_ITERATING = frozenset(_NAMES.split())
_NOWHERE = 0  # the function of what is in none


def measure(asked: dict[str, Any]) -> dict[str, Any] | None:
    """The fields of a `Quality`; None for a program that cannot be parsed.

    Complexity is McCabe's: 1, and 1 more for each `if`, `for`, `while`, `except`, `and`, `or`, each
    `for` and `if` of a comprehension, and each `case` after the first. Nesting is the number of
    `if`, `for`, `while`, `try` and `match` around the innermost one, itself included; `elif` adds
    no level.
    """
    source = asked["source"]
    given = source[: asked["given"]]
    column = len(given.rpartition("\n")[2].encode("utf-8", "replace"))
    begin = (given.count("\n") + 1, column)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
        return None
    complexity: dict[int, int] = {}
    nesting: dict[int, int] = {}
    own = documented = 0
    seen: set[str] = set()
    for node, function, depth in _walk(tree):
        start, end = _span(node)
        if end <= begin:
            continue
        if isinstance(node, _FUNCTIONS) and not node.name.startswith("test_"):
            complexity[id(node)], nesting[id(node)] = 1, 0
            if start >= begin:
                own += 1
                documented += ast.get_docstring(node) is not None
        if start < begin:
            continue
        if function in complexity:
            complexity[function] += _decisions(node)
            nesting[function] = max(nesting[function], depth)
        seen |= _idioms(node, is_inside=function != _NOWHERE)
    return {
        "functions": len(complexity),
        "own_functions": own,
        "documented": documented,
        "complexity": sum(complexity.values()),
        "nesting": sum(nesting.values()),
        **{key: key in seen for key in ("iterators", "closures", "match", "error_handling")},
    }


def _walk(tree: ast.Module) -> Iterator[tuple[ast.AST, int, int]]:
    """Every node with a place in the text, the function it is in, and its nesting in that."""
    waiting: list[tuple[ast.AST, int, int]] = [(tree, _NOWHERE, 0)]
    while waiting:
        node, function, depth = waiting.pop()
        if hasattr(node, "lineno"):
            yield node, function, depth
        if isinstance(node, _FUNCTIONS):
            function, depth = id(node), 0
        for child in ast.iter_child_nodes(node):
            deeper = isinstance(child, _NESTED) and not _is_elif(node, child)
            waiting.append((child, function, depth + deeper))


def _is_elif(node: ast.AST, child: ast.AST) -> bool:
    """Whether `child` is the `elif` of `node`: an `if` within its `else` would be indented."""
    return (
        isinstance(node, ast.If)
        and isinstance(child, ast.If)
        and child in node.orelse
        and child.col_offset == node.col_offset
    )


def _span(node: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where a node begins and ends: line and column in bytes."""
    end = (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
    return (node.lineno, node.col_offset), end


def _decisions(node: ast.AST) -> int:
    """The branches that this node by itself adds."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.Match):
        return max(0, len(node.cases) - 1)
    if isinstance(node, _COMPREHENSIONS):
        return sum(1 + len(part.ifs) for part in node.generators)
    return int(isinstance(node, _BRANCHES))


def _idioms(node: ast.AST, *, is_inside: bool) -> set[str]:
    """What a node uses; `is_inside`: a function surrounds it."""
    if isinstance(node, (*_COMPREHENSIONS, ast.Yield, ast.YieldFrom)):
        return {"iterators"}
    if isinstance(node, ast.Call):
        return {"iterators"} if getattr(node.func, "id", "") in _ITERATING else set()
    if isinstance(node, ast.Lambda) or (is_inside and isinstance(node, _FUNCTIONS)):
        return {"closures"}
    if isinstance(node, ast.Match):
        return {"match"}
    return {"error_handling"} if isinstance(node, _TRIES) else set()


def main() -> None:
    """Measure what `asked.json` has."""
    with open("asked.json", encoding="utf-8") as file:
        programs = json.load(file)
    for asked in programs:
        print(json.dumps(measure(asked)), flush=True)
