"""The process of the tests, in the sandbox.

It reads `asked.json` (tests, the prompt's own part, the function's name, a mark) and removes it,
then starts the answer in a process of its own, which sees none of it. The tests run here, with
stand-ins for what the answer defines: calls are carried over, plain data comes back. So an answer
can end its process, replace built-ins, or compare equal to everything, and has only ended, spoiled
or compared itself. Each part of the tests that passes is told with the mark.
"""

from __future__ import annotations

import builtins
import ctypes
import importlib
import json
import os
import sys
from collections.abc import Callable

from trainer.rewards.python.inside import units
from trainer.rewards.python.inside.wire import Wire, decode, encode

TYPE_CHECKING = False  # typing takes longer to import than all else
if TYPE_CHECKING:
    from typing import Any

_PR_SET_DUMPABLE = 4


class Remote:
    """The answer's process, asked for what it defines."""

    def __init__(self) -> None:
        theirs, ours = os.pipe()
        back, forth = os.pipe()
        self._wire = Wire(back, ours)
        self._functions: list[Any] = []
        for fd in (theirs, forth):
            os.set_inheritable(fd, True)
        nothing = os.open(os.devnull, os.O_RDWR)
        module = "trainer.rewards.python.inside.answering"
        command = [*sys.orig_argv[:-1], module, str(theirs), str(forth)]
        actions = [(os.POSIX_SPAWN_DUP2, nothing, fd) for fd in range(3)]
        os.posix_spawn(sys.executable, command, dict(os.environ), file_actions=actions)
        for fd in (theirs, forth, nothing):
            os.close(fd)
        message = self._wire.receive()
        if "error" in message:
            raise self._exception(message)
        self.names: list[str] = [str(name) for name in message["names"]]

    def ask(self, do: str, of: Any, *arguments: Any, **named: Any) -> Any:
        """Have the answer's process do something; what it raises is raised here."""
        self._wire.send(
            {
                "do": do,
                "of": of,
                "arguments": encode(list(arguments), self._number),
                "named": encode(named, self._number),
            }
        )
        while "ask" in (message := self._wire.receive()):
            self._wire.send(self._tell(message))
        if "error" in message:
            raise self._exception(message)
        value = decode(message["value"], self._stand_in)
        _change(arguments, decode(message["arguments"], self._stand_in))
        return value

    def _tell(self, message: dict[str, Any]) -> dict[str, Any]:
        """Call a function that the tests gave away."""
        try:
            function = self._functions[-1 - message["ask"]]
            arguments = decode(message["arguments"], self._stand_in)
            named = decode(message["named"], self._stand_in)
            return {"told": encode(function(*arguments, **named), self._number)}
        except Exception as error:
            known = [
                kind.__name__ for kind in type(error).__mro__ if hasattr(builtins, kind.__name__)
            ]
            return {"raise": known[0], "message": str(error)[:500]}

    def _number(self, value: Any) -> int:
        if type(value) is StandIn:
            return value._number
        self._functions.append(value)
        return -len(self._functions)

    def _stand_in(self, number: int) -> Any:
        return self._functions[-1 - number] if number < 0 else StandIn(self, number)

    @staticmethod
    def _exception(message: dict[str, Any]) -> Exception:
        for name in message["error"]:
            kind = getattr(builtins, str(name), None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                try:
                    return kind(message["message"])
                except TypeError:  # such as UnicodeDecodeError, which takes more
                    continue
        return RuntimeError(f"{message['name']}: {message['message']}")


class StandIn:
    """Something of the answer's that is not plain data. It equals nothing but its like."""

    def __init__(self, remote: Remote, number: int) -> None:
        object.__setattr__(self, "_remote", remote)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._remote.ask("call", self._number, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._remote.ask("get", self._number, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._remote.ask("set", self._number, name, value)

    def __eq__(self, other: object) -> bool:
        return self._compare("__eq__", other, False)

    def __ne__(self, other: object) -> bool:
        return self._compare("__ne__", other, True)

    def __lt__(self, other: object) -> bool:
        return self._compare("__lt__", other, None)

    def __le__(self, other: object) -> bool:
        return self._compare("__le__", other, None)

    def __gt__(self, other: object) -> bool:
        return self._compare("__gt__", other, None)

    def __ge__(self, other: object) -> bool:
        return self._compare("__ge__", other, None)

    def _compare(self, name: str, other: object, otherwise: bool | None) -> bool:
        if type(other) is not StandIn:
            if otherwise is None:
                raise TypeError("what an answer makes is not compared with plain data")
            return otherwise
        return self._remote.ask(name, self._number, other) is True

    def __instancecheck__(self, instance: Any) -> bool:
        return self._remote.ask("is", self._number, instance) is True

    def __hash__(self) -> int:
        return hash(self._remote.ask("hash", self._number))

    def __iter__(self) -> Any:
        made = self._remote.ask("iter", self._number)
        return made if type(made) is StandIn else iter(made)

    def __next__(self) -> Any:
        return self._remote.ask("next", self._number)

    def __len__(self) -> int:
        return self._remote.ask("len", self._number)

    def __bool__(self) -> bool:
        return self._remote.ask("bool", self._number) is True

    def __str__(self) -> str:
        return str(self._remote.ask("str", self._number))

    def __repr__(self) -> str:
        return str(self._remote.ask("repr", self._number))

    def __getitem__(self, key: Any) -> Any:
        return self._remote.ask("item", self._number, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._remote.ask("put", self._number, key, value)

    def __contains__(self, part: Any) -> bool:
        return self._remote.ask("contains", self._number, part) is True

    def __enter__(self) -> Any:
        return self._remote.ask("enter", self._number)

    def __exit__(self, *error: object) -> None:
        self._remote.ask("exit", self._number)

    def __add__(self, other: Any) -> Any:
        return self._remote.ask("+", self._number, other)

    def __sub__(self, other: Any) -> Any:
        return self._remote.ask("-", self._number, other)

    def __mul__(self, other: Any) -> Any:
        return self._remote.ask("*", self._number, other)


def _change(arguments: tuple[Any, ...], after: Any) -> None:
    """Let what the answer did to lists, sets and dictionaries that it was given be seen here."""
    for before, now in zip(arguments, after, strict=True):
        changeable = type(before) is type(now) and type(before) in (list, dict, set, bytearray)
        if changeable and before != now:
            before.clear()
            (before.extend if hasattr(before, "extend") else before.update)(now)


def main() -> None:
    """Run the tests."""
    with open("asked.json", encoding="utf-8") as file:
        asked = json.load(file)
    os.remove("asked.json")
    # Nobody opens the memory or the descriptors of this process.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    say = _sayer(asked["mark"])
    try:
        remote = Remote()
    except Exception as error:
        say({"problem": f"{type(error).__name__}: {error}"[:500]})
        return
    names = {name: _named(remote, name) for name in remote.names if _is_wanted(name, asked)}
    tests = units.Tests(asked["tests"], asked["given"], asked["target"])
    tests.run(names, say)


def _is_wanted(name: str, asked: dict[str, Any]) -> bool:
    """Built-ins stay what they are in the tests, whatever the answer calls so."""
    return (not hasattr(builtins, name) and name in asked["tests"]) or name == asked["target"]


def _named(remote: Remote, name: str) -> Any:
    """What the answer calls `name`. A module's name is the module's, also if the answer took it."""
    if name in sys.stdlib_module_names:
        return importlib.import_module(name)
    return remote.ask("name", name)


def _sayer(mark: str) -> Callable[[dict[str, Any]], None]:
    """What writes a line with the mark; nothing else writes to standard output."""
    output = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)

    def say(message: dict[str, Any]) -> None:
        os.write(output, f"{mark} {json.dumps(message)}\n".encode())

    return say
