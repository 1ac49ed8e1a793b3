"""JSON as text: encoding that never refuses a value, parsing that limits nesting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

Json = dict[str, Any]

MAX_INT = (1 << 63) - 1  # the largest integer that orjson writes
_PLAIN = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_INDENTED = _PLAIN | orjson.OPT_INDENT_2
_NONE = type(None)
_MAX_DEPTH = 100  # levels of nesting that are written; deeper values become "…"
_MAX_READ_DEPTH = 300  # levels of nesting; orjson parses 1024, but Python's `str` of it fails
SHALLOW = 2 * _MAX_READ_DEPTH  # bytes; a shorter text cannot open and close that many levels


def is_number(value: object) -> bool:
    """Whether `value` is an int or float, and not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_NONFINITE = {
    "nan": math.nan,
    "-nan": math.nan,
    "+nan": math.nan,
    "inf": math.inf,
    "+inf": math.inf,
    "infinity": math.inf,
    "+infinity": math.inf,
    "-inf": -math.inf,
    "-infinity": -math.inf,
}


def parse_nonfinite(text: str) -> float | None:
    """NaN or an infinity in any usual spelling; None for any other text."""
    return _NONFINITE.get(text.strip().lower()) if len(text) < 16 else None


def split_nonfinite(record: Mapping[str, Any]) -> Json:
    """A copy of `record` fit for JSON: non-finite floats become null, named in `nonfinite`."""
    clean = dict(record)
    named: Json = {}
    for key, value in record.items():
        if isinstance(value, float) and not math.isfinite(value):
            clean[key] = None
            named[key] = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if named:
        clean["nonfinite"] = named
    return clean


def parse_json(data: bytes) -> Any:
    """The value of a JSON text. Raises ValueError, also for one nested too deeply to be handled."""
    value = orjson.loads(data)
    if len(data) > SHALLOW and is_too_deep(data, value):
        raise ValueError(f"nested more than {_MAX_READ_DEPTH} levels deep")
    return value


def is_too_deep(data: bytes, value: Any) -> bool:
    """Whether `value`, parsed from `data`, is nested so deeply that even `str` of it may fail.

    No text of at most `SHALLOW` bytes is.
    """
    if data.count(b"[") + data.count(b"{") <= _MAX_READ_DEPTH:
        return False
    level = [value]
    for _ in range(_MAX_READ_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def encode_line(record: Mapping[str, Any]) -> bytes:
    """`record` as one line of JSON, without the newline. Never refuses a value."""
    try:
        line = orjson.dumps(record, option=_PLAIN, default=str)
    except (TypeError, ValueError):
        line = encode_json(record)
    # A number that is not finite became null as well: so there is one more than there are Nones.
    # Looking at each value takes longer than writing the line.
    if line.count(b"null") == [*map(type, record.values())].count(_NONE):
        return line
    return encode_json(split_nonfinite(record))


def encode_json(value: Any, *, indent: bool = False) -> bytes:
    """`value` as JSON, whatever is in it: a message with a stray byte must not stop a training.

    Non-finite numbers become null, unknown objects their text, text that is no Unicode gets
    replacement characters, integers beyond 64 bits become floats.
    """
    option = _INDENTED if indent else _PLAIN
    try:
        return orjson.dumps(value, option=option, default=str)
    except (TypeError, ValueError):  # orjson says no to the above
        return orjson.dumps(_encodable(value, 0), option=option, default=_text)


def _encodable(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return value if abs(value) <= MAX_INT else _as_float(value)
    if isinstance(value, (Mapping, list, tuple)) and depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {_text(k): _encodable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(v, depth + 1) for v in value]
    return value


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


def _as_float(value: int) -> float | None:
    try:
        return float(value)
    except OverflowError:
        return None
