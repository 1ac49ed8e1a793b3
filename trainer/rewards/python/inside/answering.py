"""The process of the answer: it defines what the answer does, and is asked by the tests' process.

Its arguments are the descriptors of two pipes. It knows neither the tests nor the mark
that a passed one is told with.
"""

from __future__ import annotations

import builtins
import sys
import types

from trainer.rewards.python.inside.wire import Wire, decode, encode

TYPE_CHECKING = False  # typing takes longer to import than all else
if TYPE_CHECKING:
    from typing import Any

_COMPARED = ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__")


class Answer:
    """The answer's objects that the tests have asked for, by number."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._objects: list[Any] = []
        self._names: dict[str, Any] = {}

    def define(self, source: str) -> None:
        """Run the answer's module, and tell its names."""
        module = types.ModuleType("answer")
        sys.modules["answer"] = module
        try:
            exec(compile(source, "answer", "exec", dont_inherit=True), module.__dict__)
        except BaseException as error:
            self._wire.send(self._error(error))
            return
        self._names = dict(vars(module))
        self._wire.send({"names": sorted(name for name in self._names if name[:2] != "__")})

    def serve(self) -> None:
        """Answer questions until there are none."""
        while True:
            try:
                question = self._wire.receive()
            except EOFError:
                return
            self._wire.send(self._answer(question))

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            arguments = decode(question["arguments"], self._theirs)
            named = decode(question["named"], self._theirs)
            value = self._do(question["do"], question["of"], arguments, named)
            return {
                "value": encode(value, self._keep),
                "arguments": encode(arguments, self._keep),
            }
        except BaseException as error:
            return self._error(error)

    def _do(self, what: str, of: Any, arguments: Any, named: Any) -> Any:
        if what == "name":
            return self._names[of]
        target = self._objects[of]
        if what == "call":
            return target(*arguments, **named)
        if what == "get":
            return getattr(target, *arguments)
        if what == "set":
            return setattr(target, *arguments)
        if what in _COMPARED:
            return getattr(type(target), what)(target, *arguments)
        if what == "is":
            return isinstance(arguments[0], target)
        operation: Any = {
            "iter": iter, "next": next, "len": len, "str": str, "repr": repr, "hash": hash,
            "bool": bool, "enter": lambda x: x.__enter__(),
            "exit": lambda x: x.__exit__(None, None, None),
            "item": lambda x, key: x[key], "contains": lambda x, part: part in x,
            "put": lambda x, key, part: x.__setitem__(key, part),
            "+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y,
        }[what]  # fmt: skip
        return operation(target, *arguments)

    def _keep(self, value: Any) -> int:
        self._objects.append(value)
        return len(self._objects) - 1

    def _theirs(self, number: int) -> Any:
        """An object of ours that comes back, or, below zero, a function of the tests."""
        if number >= 0:
            return self._objects[number]

        def ask(*arguments: Any, **named: Any) -> Any:
            self._wire.send(
                {
                    "ask": number,
                    "arguments": encode(list(arguments), self._keep),
                    "named": encode(named, self._keep),
                }
            )
            while True:
                message = self._wire.receive()
                if "told" in message:
                    return decode(message["told"], self._theirs)
                if "raise" in message:
                    kind = getattr(builtins, message["raise"], Exception)
                    raise kind(message["message"])
                self._wire.send(self._answer(message))  # the function asks us in turn

        return ask

    @staticmethod
    def _error(error: BaseException) -> dict[str, Any]:
        kinds = [
            kind.__name__
            for kind in type(error).__mro__
            if kind.__module__ == "builtins" and kind is not object
        ]
        try:
            message = str(error)[:500]
        except BaseException:
            message = ""
        return {"error": kinds, "name": str(type(error).__name__)[:80], "message": message}


def main() -> None:
    """Define the answer and serve."""
    answer = Answer(Wire(int(sys.argv[2]), int(sys.argv[3])))
    sys.argv[:] = [""]
    with open("answer.py", encoding="utf-8") as file:
        source = file.read()
    answer.define(source)
    answer.serve()
