"""The parts of a task's tests, each of which passes or does not."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Callable
from functools import partial

TYPE_CHECKING = False  # typing takes longer to import than all else
if TYPE_CHECKING:
    from typing import Any

Say = Callable[[dict[str, object]], None]
_PASSED, _FAILED = "__trainer_passed__", "__trainer_failed__"
_ATTEMPT = f"""
try:
    pass
except Exception as {_FAILED}error__:
    {_FAILED}({_FAILED}error__)
else:
    {_PASSED}({{number}})
"""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Tests:
    """Tests as code that counts. `given` is the prompt's code, `target` the function to test.

    A part is a statement with an assertion: at the top, of a function whose name begins with
    `test`, of `check(candidate)` as HumanEval has it, or of a method of a test case.
    """

    def __init__(self, source: str, given: str, target: str | None) -> None:
        self._target = target
        self._given = _known(given, target)
        self._tree = ast.parse(source)
        self.total = 0
        called = {
            node.func.id
            for statement in self._tree.body
            for node in ast.walk(statement)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        self._calls: list[str] = []
        self._cases: list[tuple[str, list[str]]] = []
        body: list[ast.stmt] = []
        for statement in self._tree.body:
            if isinstance(statement, _FUNCTIONS) and _is_test(statement.name):
                statement.body = self._counted(statement.body)
                if statement.name not in called:
                    self._calls.append(statement.name)
                body.append(statement)
            elif isinstance(statement, ast.ClassDef):
                methods = [
                    node for node in statement.body
                    if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
                ]  # fmt: skip
                for method in methods:
                    method.body = self._counted(method.body)
                if methods:
                    self._cases.append((statement.name, [method.name for method in methods]))
                body.append(statement)
            elif isinstance(statement, _FUNCTIONS):
                body.append(statement)
            else:
                body += self._counted([statement])
        self._tree.body = body

    def run(self, names: dict[str, Any], say: Say) -> None:
        """Run all parts. `names` are the answer's. Says the total, then each part that passes."""
        fine = self.total == 0  # without assertions, to end without an error is all there is
        say({"total": self.total or 1})
        module = types.ModuleType("tests")
        sys.modules["tests"] = module
        scope = module.__dict__
        scope.update(names)
        exec(compile(self._given, "given", "exec", dont_inherit=True), scope)
        if self._target in names:
            scope.update({self._target: names[self._target], "candidate": names[self._target]})
        scope[_PASSED] = lambda number: say({"passed": number})
        scope[_FAILED] = lambda error: say({"raised": _words(error)})
        fine &= _tried(
            lambda: exec(compile(self._tree, "tests", "exec", dont_inherit=True), scope), say
        )
        for name in self._calls:
            function = scope[name]
            given = [scope.get("candidate")] if function.__code__.co_argcount else []
            fine &= _tried(partial(function, *given), say)
        for name, methods in self._cases:
            for method in methods:
                fine &= _tried(partial(_run_case, scope[name], method), say)
        if fine:
            say({"passed": 0})

    def _counted(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Statements, those with assertions followed by a note that they passed.

        One that fails does not keep the next ones from running.
        """
        found: list[ast.stmt] = []
        for statement in body:
            if not _asserts(statement):
                found.append(statement)
                continue
            attempt = ast.parse(_ATTEMPT.format(number=self.total)).body[0]
            assert isinstance(attempt, ast.Try)
            attempt.body = [statement]
            self.total += 1
            found.append(ast.fix_missing_locations(attempt))
        return found


def _known(given: str, target: str | None) -> ast.Module:
    """What a prompt defines by itself: imports, and functions beside the one it asks for."""
    for text in (given, f"{given}\n    pass\n", f"{given}    pass\n", f"{given}\npass\n"):
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        tree.body = [node for node in tree.body if getattr(node, "name", None) != target]
        return tree
    return ast.Module(body=[], type_ignores=[])


def _is_test(name: str) -> bool:
    return name.startswith("test") or name == "check"


def _asserts(statement: ast.stmt) -> bool:
    """Whether a statement has an assertion that can fail."""
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        return False
    for node in ast.walk(statement):
        match node:
            case ast.Assert(test=ast.Constant(value=value)) if value:
                continue
            case ast.Assert():
                return True
            case ast.Call(func=ast.Attribute(attr=name)) if name.startswith(("assert", "fail")):
                return True
    return False


def _run_case(kind: type, method: str) -> None:
    try:
        case = kind(method)
    except TypeError:  # a class without a constructor, as pytest takes it
        case = kind()
    for name in ("setUpClass", "setUp", "setup_method", method, "tearDown"):
        if hasattr(case, name):
            getattr(case, name)()


def _tried(action: Callable[[], object], say: Say) -> bool:
    try:
        action()
        return True
    except BaseException as error:
        say({"raised": _words(error)})
        return False


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except Exception:
        return type(error).__name__
