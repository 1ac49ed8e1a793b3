"""Values on their way between the tests and the answer: plain data, and marks for all else.

Nothing that comes from the answer can run code in the process of the tests: there are no pickles,
and no object of the answer's is rebuilt. What is not plain data stays where it is, under a number.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable

TYPE_CHECKING = False  # typing takes longer to import than all else
if TYPE_CHECKING:
    from typing import Any

_SEQUENCES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "deque": deque}
_NUMBERS = {"Fraction": "fractions", "Decimal": "decimal"}
_MAX_DEPTH = 200
_CHUNK = 1 << 16


def encode(value: Any, keep: Callable[[Any], int], depth: int = 0) -> Any:
    """A value as JSON data. `keep` gives a number to what is not plain data.

    Of instances of classes that derive from a plain one, the plain part is taken: their own methods
    are not asked. Raises ValueError if it nests too deeply.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("a value nests too deeply")
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return ["int", format(int.__index__(value), "x")]
    if isinstance(value, float):
        return ["float", float.hex(value)]
    if isinstance(value, complex):
        return ["complex", float.hex(value.real), float.hex(value.imag)]
    if isinstance(value, bytes | bytearray):
        name = "bytes" if isinstance(value, bytes) else "bytearray"
        return [name, bytes(memoryview(value)).hex()]
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return [name, [encode(part, keep, depth + 1) for part in kind.__iter__(value)]]
    if isinstance(value, dict):
        return [
            "dict",
            [
                [encode(key, keep, depth + 1), encode(part, keep, depth + 1)]
                for key, part in dict.items(value)
            ],
        ]
    for name, module in _NUMBERS.items():  # imported only if something else has done so
        if module in sys.modules and type(value) is getattr(sys.modules[module], name):
            return [name, str(value)]
    return ["kept", keep(value)]


def decode(data: Any, kept: Callable[[int], Any]) -> Any:
    """The value of JSON data; `kept` gives what has a number. Raises ValueError for other data."""
    if data is None or isinstance(data, bool | str):
        return data
    match data:
        case ["int", str(digits)]:
            return int(digits, 16)
        case ["float", str(digits)]:
            return float.fromhex(digits)
        case ["complex", str(real), str(imaginary)]:
            return complex(float.fromhex(real), float.fromhex(imaginary))
        case ["bytes", str(digits)]:
            return bytes.fromhex(digits)
        case ["bytearray", str(digits)]:
            return bytearray.fromhex(digits)
        case ["dict", list(items)]:
            return {decode(key, kept): decode(part, kept) for key, part in items}
        case [str(name), str(text)] if name in _NUMBERS:
            return getattr(importlib.import_module(_NUMBERS[name]), name)(text)
        case ["kept", int(number)]:
            return kept(number)
        case [str(name), list(parts)] if name in _SEQUENCES:
            return _SEQUENCES[name](decode(part, kept) for part in parts)
    raise ValueError(f"no value: {str(data)[:40]}")


class Wire:
    """A pair of pipes that carries lines of JSON."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._rest = b""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. Raises OSError if nobody reads."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(self._writing, data) :]

    def receive(self) -> dict[str, Any]:
        """The next message. Raises EOFError if there is none, ValueError if it is no message."""
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            data = os.read(self._reading, _CHUNK)
            if not data:
                raise EOFError("the answer's process has ended")
            parts.append(data)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("no message")  # noqa: TRY004 - hostile data, not a wrong call
        return message
