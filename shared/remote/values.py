"""Frozen dataclasses as JSON and back, from a host that may say anything."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from typing import Any, Literal, TypeVar

from shared.errors import RunError
from shared.json_text import is_number
from shared.text import many_lines

_MOST = 100_000  # elements of a list
_LONGEST = 8_000  # characters of a text
_LARGEST = 1 << 62
T = TypeVar("T")


class StrangeValueError(RunError):
    """The other side sent something else than was asked for."""


def encode(value: Any) -> Any:
    """A dataclass, and what is in it, as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: encode(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [encode(one) for one in value]
    return value


def decode(kind: type[T], value: Any) -> T:
    """A value of this type. Texts are made safe to show.

    Raises StrangeValueError when it is none.
    """
    try:
        found: T = _decode(kind, value)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise StrangeValueError(
            "The other side sent something that this program does not understand; install the same "
            "train-monitor on both."
        ) from error
    return found


def _decode(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, value)
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _one_of(inside, value)
    if origin is tuple:
        return _tuple(inside, value)
    if origin is Literal:
        if value not in inside:
            raise ValueError
        return value
    if kind is float and is_number(value) and math.isfinite(value):
        return float(value)
    if kind is int and type(value) is int and abs(value) < _LARGEST:
        return value
    if kind is bool and type(value) is bool:
        return value
    if kind is str and isinstance(value, str):
        return many_lines(value[:_LONGEST])
    raise ValueError


def _one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    if value is None:
        if type(None) not in kinds:
            raise ValueError
        return None
    for kind in kinds:
        if kind is not type(None):
            try:
                return _decode(kind, value)
            except (ValueError, OverflowError):
                continue
    raise ValueError


def _tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > _MOST:
        raise ValueError
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_decode(kinds[0], one) for one in value)
    return tuple(_decode(kind, one) for kind, one in zip(kinds, value, strict=True))


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _dataclass(kind: Any, value: Any) -> Any:
    hints = _hints(kind)
    if not isinstance(value, dict) or not value.keys() <= hints.keys():
        raise ValueError
    return kind(**{name: _decode(hints[name], one) for name, one in value.items()})
