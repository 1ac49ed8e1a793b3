"""The text in a record: a line of JSON Lines or a row of a table."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import orjson

from shared.text import one_line
from trainer.data.bad_records import BadRecordError


class Parsed(NamedTuple):
    """A record, and what had to be mended in it; empty if nothing."""

    record: dict[str, Any]
    mended: str = ""


def parse_record(line: bytes | str, field: str) -> Parsed:
    """The JSON object in a line. Raises BadRecordError."""
    mended = ""
    try:
        record = orjson.loads(line)
    except ValueError:
        # json accepts what orjson rightly refuses: lone surrogates, NaN, repaired UTF-8.
        text = line if isinstance(line, str) else line.decode("utf-8", "replace")
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadRecordError(
                f"is not valid JSON ({one_line(error)}): each line must be one JSON object"
            ) from error
        mended = "is JSON only for a lenient reader: it has NaN, Infinity or half a character"
    if not isinstance(record, dict):
        raise BadRecordError(f"is {_type(record)} in JSON, not an object with a {field!r} field")
    return Parsed(record, mended)


def text_of(record: dict[str, Any], field: str) -> str:
    """The text in a field, by its name or its path (`data.text`). Raises BadRecordError."""
    there, value = _find(record, field)
    if not there:
        known = ", ".join(map(one_line, record)) or "none"
        raise BadRecordError(
            f"has no field {field!r}; its fields are {one_line(known)}: choose one with "
            "--text-field"
        )
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRecordError(f": field {field!r} is {_type(value)}, not text")
    return value


def _find(record: dict[str, Any], field: str) -> tuple[bool, Any]:
    """The value of a field, and whether there is one."""
    if field in record:
        return True, record[field]
    value: Any = record
    for name in field.split("."):
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


def _type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "null" if value is None else "an object")
