"""Whether a function's result can depend on its parameters: a constant solves no task."""

from __future__ import annotations

import ast

#: Calls that change nothing.
_PURE = frozenset((
    "abs", "bool", "dict", "float", "hash", "id", "int", "isinstance", "len", "list", "max", "min",
    "print", "range", "repr", "set", "sorted", "str", "sum", "tuple", "type",
))  # fmt: skip
_BINDS = (ast.Assign, ast.AnnAssign, ast.AugAssign)


def uses_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a parameter is read where it can matter; true for a function without parameters.

    It does not in a statement that only prints, asserts, deletes or computes something, or that
    keeps it in a variable nobody reads.
    """
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    names = {one.arg for one in every if one is not None} - {"self", "cls"}
    if not names:
        return True
    loaded = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    returns = any(isinstance(node, ast.Return | ast.Yield) for node in ast.walk(function))
    waiting: list[ast.AST] = list(function.body)
    for node in waiting:  # grows while it is read
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
            return True
        # What returns nothing has its printing for its result.
        if not (returns and _is_in_vain(node, loaded)):
            waiting += ast.iter_child_nodes(node)
    return False


def _is_in_vain(node: ast.AST, loaded: set[str]) -> bool:
    """Whether a statement has no effect on what follows it."""
    if isinstance(node, ast.Assert | ast.Delete):
        return True
    if isinstance(node, ast.Expr):
        return _is_pure(node.value)
    if isinstance(node, _BINDS) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        stored = [one for target in targets for one in ast.walk(target)]
        kept = any(isinstance(one, ast.Attribute | ast.Subscript) for one in stored)
        read = {one.id for one in stored if isinstance(one, ast.Name)} & loaded
        return not kept and not read and _is_pure(node.value)
    return False


def _is_pure(value: ast.AST) -> bool:
    """Whether an expression only computes."""
    for node in ast.walk(value):
        if isinstance(node, ast.Yield | ast.YieldFrom | ast.Await | ast.NamedExpr):
            return False
        if isinstance(node, ast.Call):
            called = node.func
            if not isinstance(called, ast.Name) or called.id not in _PURE:
                return False
    return True
