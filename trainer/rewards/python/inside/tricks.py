"""What an answer may not do: look like one without being one, or reach for whoever judges it.

Tests that run in a process of their own do not depend on these rules; without tests they are what
stands between an answer and its points.
"""

from __future__ import annotations

import ast
import builtins
import re

#: What an answer may import. All of it only computes.
_MODULES = """
    abc array base64 bisect calendar cmath collections contextlib copy dataclasses datetime decimal
    enum fractions functools hashlib heapq itertools json math numbers operator queue random re
    statistics string struct sys textwrap time typing unicodedata zlib
"""
MODULES = frozenset(_MODULES.split())
#: Of `sys`, which has much that reaches further.
_SYS = """
    byteorder float_info getsizeof int_info maxsize maxunicode set_int_max_str_digits
    setrecursionlimit version_info
"""
_OF_SYS = frozenset(_SYS.split())
_FORBIDDEN = """
    __build_class__ __import__ breakpoint compile delattr eval exec exit getattr globals help input
    locals memoryview open quit setattr vars
"""
_CALLS = frozenset(_FORBIDDEN.split())
_INSPECTING = """
    f_back f_builtins f_globals f_locals gi_frame cr_frame ag_frame tb_frame co_code func_globals
    mro
"""
_ATTRIBUTES = frozenset(_INSPECTING.split())
#: Names with two underscores that ordinary code uses as attributes.
_ORDINARY = """
    __abs__ __add__ __bool__ __contains__ __doc__ __enter__ __eq__ __exit__ __format__ __ge__
    __getitem__ __gt__ __hash__ __init__ __int__ __iter__ __le__ __len__ __lt__ __mul__ __name__
    __ne__ __neg__ __new__ __next__ __post_init__ __repr__ __str__ __sub__ __truediv__
"""
_DUNDERS = frozenset(_ORDINARY.split())
#: Modules that modules of the list above have imported: `json.codecs.builtins.exec`.
_REACHED = """
    bltns builtins codecs ctypes functools gc importlib inspect io keyword linecache os pathlib
    pickle reprlib shutil signal socket subprocess sys threading types warnings weakref
"""
_INNER = frozenset(_REACHED.split())
_DUNDER_TEXT = re.compile(r"__(?!main__|init__)[a-z]+__")
_BUILTINS = frozenset(dir(builtins))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.Lambda, ast.ClassDef)


def find(tree: ast.Module, first_line: int, target: str | None, reserved: set[str]) -> str | None:
    """Why an answer is refused, continuing `the answer …`; None if it is not.

    It begins in `first_line`. `target` is the function that it must define, `reserved` are names
    that belong to the tests.
    """
    found = _forbidden(tree, first_line, reserved - {target or ""})
    if found:
        return found
    functions = [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    own = [node for node in functions if node.name == target]
    if target is None:
        if not any(_does_something(node) for node in functions) and not _computes(tree):
            return "has no code"
        return None
    if own and not _does_something(own[-1]):
        return f"has no code in {target}"
    if own and _only_calls_itself(own[-1]):
        return f"only calls {target} in {target}"
    return None


def gives_something(function: ast.AST) -> bool:
    """Whether a function has a `return` with a value or a `yield`, its inner ones aside."""
    return any(
        isinstance(node, ast.Yield | ast.YieldFrom)
        or (isinstance(node, ast.Return) and node.value is not None)
        for node in _own_nodes(function)
    )


def _forbidden(tree: ast.Module, first_line: int, reserved: set[str]) -> str | None:
    imported: set[str] = set()
    for node in ast.walk(tree):
        given = getattr(node, "lineno", first_line) < first_line
        if isinstance(node, ast.Import):
            imported |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            wrong = [a.name for a in node.names if a.name.partition(".")[0] not in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").partition(".")[0]
            wrong = [] if module in MODULES and not node.level else [node.module or "."]
            names = [alias.name for alias in node.names]
            wrong += [name for name in names if name.startswith("_") or name in _INNER]
            if module == "sys":
                wrong += [name for name in names if name not in _OF_SYS]
        else:
            continue
        if wrong and not given:
            return f"imports {wrong[0]}"
    for node in ast.walk(tree):
        if getattr(node, "lineno", first_line) < first_line:
            continue
        if isinstance(node, ast.Name):
            if node.id in _CALLS or (node.id.startswith("__") and node.id not in _DUNDERS):
                return f"uses {node.id}"
        elif isinstance(node, ast.Attribute):
            name = node.attr
            if name in _ATTRIBUTES or (name.startswith("__") and name not in _DUNDERS):
                return f"uses .{name}"
            root = _root(node)
            if root == "sys" and "sys" in imported and name not in _OF_SYS:
                return f"uses sys.{name}"
            if root in imported and (name.startswith("_") or name in _INNER):
                return f"uses {root}.{name}"
            if not isinstance(node.ctx, ast.Load) and root in imported | _BUILTINS:
                return f"changes {root}"
        elif isinstance(node, ast.Global | ast.Nonlocal):
            if set(node.names) & (_BUILTINS | reserved):
                return f"replaces {node.names[0]}"
        elif isinstance(node, ast.Constant):
            hidden = _DUNDER_TEXT.search(node.value) if isinstance(node.value, str) else None
            if hidden is not None:
                return f"names {hidden[0]}"
    for name in _defined(tree, first_line):
        if name in _BUILTINS:
            return f"replaces {name}"
        if name in reserved:
            return f"defines {name}, which is the tests'"
    return None


def _defined(tree: ast.Module, first_line: int) -> list[str]:
    """The names that the answer defines at the top of its module."""
    found = []
    waiting: list[ast.AST] = list(tree.body)
    for node in waiting:  # grows while it is read
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            names = [node.name]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names = [node.id]
        else:
            names = []
        if getattr(node, "lineno", 0) >= first_line:
            found += names
        if not isinstance(node, _SCOPES):
            waiting += ast.iter_child_nodes(node)
    return found


def _root(node: ast.AST) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def _own_nodes(function: ast.AST) -> list[ast.AST]:
    """The nodes of a function, without those of functions inside."""
    found = list(ast.iter_child_nodes(function))
    for node in found:  # grows while it is read
        if not isinstance(node, _SCOPES):
            found += ast.iter_child_nodes(node)
    return found


def _does_something(function: ast.AST) -> bool:
    """Whether a body has more than what stands for a missing one."""
    return any(not _stands_for_nothing(statement) for statement in function.body)  # type: ignore[attr-defined]


def _stands_for_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Break() | ast.Continue() | ast.Raise() | ast.Global():
            return True
        case ast.Expr(value=ast.Constant() | ast.Name() | ast.Yield(value=None)):
            return True
        case ast.Return(value=None | ast.Constant(value=None)):
            return True
        case ast.Return(value=ast.Constant(value=value)) if value is Ellipsis:
            return True
        case ast.Return(value=ast.Name(id="NotImplemented")):
            return True
        case ast.Assert(test=ast.Constant()):
            return True
        case ast.Import() | ast.ImportFrom() | ast.AnnAssign(value=None):
            return True
        case ast.If(test=ast.Constant()) | ast.While() | ast.With() | ast.Try() | ast.For():
            return all(map(_stands_for_nothing, _inner(statement)))
    return isinstance(statement, (*_FUNCTIONS, ast.ClassDef))


def _inner(statement: ast.stmt) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for name in ("body", "orelse", "finalbody"):
        found += getattr(statement, name, [])
    for handler in getattr(statement, "handlers", []):
        found += handler.body
    return found


def _only_calls_itself(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether every way through a function begins by calling it again: nothing ends it."""
    for statement in function.body:
        if _stands_for_nothing(statement) and not isinstance(statement, ast.Return | ast.Raise):
            continue
        return _always_calls(statement, function.name)
    return False


def _always_calls(statement: ast.stmt, name: str) -> bool:
    match statement:
        case ast.Return(value=value) | ast.Expr(value=value) | ast.Assign(value=value):
            return value is not None and _calls(value, name)
        case ast.If(test=test, body=body, orelse=orelse):
            if _calls(test, name):
                return True
            return bool(orelse) and _always_calls(body[0], name) and _always_calls(orelse[0], name)
    return False


def _calls(expression: ast.expr, name: str) -> bool:
    """Whether an expression calls `name` whatever its parts are."""
    if isinstance(expression, ast.BoolOp):
        return _calls(expression.values[0], name)
    if isinstance(expression, ast.IfExp):
        both = _calls(expression.body, name) and _calls(expression.orelse, name)
        return both or _calls(expression.test, name)
    if isinstance(expression, ast.Lambda | ast.GeneratorExp):
        return False
    if isinstance(expression, ast.ListComp | ast.SetComp | ast.DictComp):
        return _calls(expression.generators[0].iter, name)
    if isinstance(expression, ast.Call) and getattr(expression.func, "id", None) == name:
        return True
    inner = [node for node in ast.iter_child_nodes(expression) if isinstance(node, ast.expr)]
    inner += [node.value for node in getattr(expression, "keywords", [])]
    return any(_calls(node, name) for node in inner)


def _computes(tree: ast.Module) -> bool:
    """Whether a module without functions does anything."""
    return any(
        not _stands_for_nothing(node) and not isinstance(node, ast.Import | ast.ImportFrom)
        for node in tree.body
    )
