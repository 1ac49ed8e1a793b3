"""Fields of records that others wrote, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.text import one_line


class BadTaskError(Exception):
    """A record that is no task; the message continues `FILE line N`."""


def text(record: Mapping[str, Any], name: str) -> str:
    """The text in a field that a task needs. Raises BadTaskError."""
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        problem = f"has no field {name!r}" if name not in record else f": field {name!r} "
        raise BadTaskError(problem if name not in record else problem + _is(value))
    return value


def text_if_any(record: Mapping[str, Any], name: str) -> str | None:
    """The text in a field that a task may lack; None for null. Raises BadTaskError."""
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise BadTaskError(f": field {name!r} {_is(value)}")
    return value


def _is(value: object) -> str:
    if isinstance(value, str):
        return "is empty"
    return f"is {one_line(repr(value), 40)}, not text"
