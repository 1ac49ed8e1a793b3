"""Says what answers are like without running them, in the sandbox.

`asked.json` has a list of answers; standard output has a line of JSON for each, in their order. One
that ends this process, by nesting its brackets without end perhaps, has no line.
"""

from __future__ import annotations

import ast
import builtins
import json
import symtable
import warnings

from trainer.rewards.python.inside import tricks, usage

TYPE_CHECKING = False  # typing takes longer to import than all else
if TYPE_CHECKING:
    from typing import Any

_BUILTINS = frozenset(dir(builtins)) | {"__file__", "__name__", "__doc__", "__annotations__"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def inspect(asked: dict[str, Any]) -> dict[str, Any]:
    """What is to be said of one answer.

    `asked` has its `source`, how many characters of that were `given`, the `signature` it must
    define, the names that are `reserved` for the tests, and the task's own `solution` or None.
    """
    source = asked["source"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
            compile(source, "answer", "exec", dont_inherit=True)
    except SyntaxError as error:
        return {"error": str(error.msg), "share": _share(source, asked["given"], error)}
    except (ValueError, MemoryError, RecursionError, OverflowError) as error:
        return {"error": f"{type(error).__name__}: {error}", "share": 0.0}
    head = _head(asked["signature"])
    first_line = source.count("\n", 0, asked["given"]) + 1
    refusal = tricks.find(tree, first_line, head.name if head else None, set(asked["reserved"]))
    if refusal is None and head is not None and not _ignores(asked["solution"], head.name):
        refusal = _constant(tree, head.name)
    problems = [f"{name} is not defined" for name in _undefined(source)]
    if head is not None:
        problems += _differences(tree, head)
    return {
        "refusal": refusal,
        "problems": problems,
        "style": _style(source[asked["given"] :], tree, head),
    }


def _constant(tree: ast.Module, name: str) -> str | None:
    """Why a function that is named so cannot depend on what it is called with."""
    found = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) and node.name == name]
    if not found or usage.uses_parameters(found[-1]):
        return None
    return f"uses none of the parameters of {name}"


def _ignores(solution: str | None, name: str) -> bool:
    """Whether the task's own solution does without its parameters."""
    if solution is None:
        return False
    try:
        return _constant(ast.parse(solution), name) is not None
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def _share(source: str, given: int, error: SyntaxError) -> float:
    """How much of the answer comes before its first error, from 0 to 1."""
    lines = source.splitlines(keepends=True)
    line = max(0, (error.lineno or 1) - 1)
    at = sum(map(len, lines[:line])) + max(0, (error.offset or 1) - 1)
    length = len(source.rstrip()) - given
    return max(0.0, min(1.0, (at - given) / length)) if length > 0 else 0.0


def _head(signature: str | None) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    if not signature:
        return None
    text = signature.strip().rstrip(":").rstrip()
    try:
        found = ast.parse(f"{text}:\n    pass").body
    except (SyntaxError, ValueError):
        return None
    return found[0] if len(found) == 1 and isinstance(found[0], _FUNCTIONS) else None


def _differences(tree: ast.Module, head: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """What keeps a module from defining the function that was asked for."""
    found = [node for node in tree.body if isinstance(node, _FUNCTIONS) and node.name == head.name]
    if len(found) != 1:
        return [f"{head.name} is {'not defined' if not found else 'defined more than once'}"]
    function = found[0]
    problems = []
    if type(function) is not type(head) or _names(function.args) != _names(head.args):
        problems.append(f"the signature of {head.name} is not the one the task asks for")
    returned = head.returns
    nothing = isinstance(returned, ast.Constant) and returned.value is None
    if returned is not None and not nothing and not tricks.gives_something(function):
        problems.append(f"{head.name} returns nothing")
    return problems


def _names(arguments: ast.arguments) -> tuple[list[str], list[str], str | None, str | None, int]:
    """A signature less its annotations: names in their order, and how many have defaults."""
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    only = [argument.arg for argument in arguments.kwonlyargs]
    more = arguments.vararg.arg if arguments.vararg else None
    named = arguments.kwarg.arg if arguments.kwarg else None
    return positional, only, more, named, len(arguments.defaults)


def _undefined(source: str) -> list[str]:
    """Global names that are read somewhere and defined nowhere."""
    top = symtable.symtable(source, "answer", "exec")
    defined = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned()}
    defined |= {symbol.get_name() for symbol in top.get_symbols() if symbol.is_imported()}
    missing: dict[str, None] = {}
    tables = [top]
    for table in tables:  # grows while it is read
        tables += table.get_children()
        for symbol in table.get_symbols():
            name = symbol.get_name()
            if symbol.is_declared_global() and symbol.is_assigned():
                defined.add(name)
            outside = table is top or symbol.is_global()
            if symbol.is_referenced() and outside and not symbol.is_assigned():
                missing[name] = None
    return [name for name in missing if name not in defined | _BUILTINS]


def _style(completion: str, tree: ast.Module, head: ast.AST | None) -> float:
    """The share of four rules that an answer follows: no line of more than 100 columns, no more
    than six levels, no bare or broad `except` that hides errors, and every variable is read."""
    lines = completion.splitlines()
    deepest = max((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    hides = any(
        isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
        for node in ast.walk(tree)
    )
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    written = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    kept = (
        all(len(line) <= 100 for line in lines),
        deepest <= 28,
        not hides,
        all(name in read or name.startswith("_") for name in written),
    )
    return sum(kept) / len(kept)


def main() -> None:
    """Inspect what `asked.json` has."""
    with open("asked.json", encoding="utf-8") as file:
        answers = json.load(file)
    for asked in answers:
        print(json.dumps(inspect(asked)), flush=True)
