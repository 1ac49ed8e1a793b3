"""Parsing of JSON lines with any content, such as `metrics.jsonl` and `events.jsonl`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from shared.json_text import SHALLOW, Json, is_too_deep, parse_nonfinite
from shared.run.tail import Tailer

# A string is matched to its end or the end of the line, so that every line takes a single pass.
_BARE_NONFINITE = re.compile(
    r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[-+]?\b(?:nan|inf(?:inity)?)\b', re.IGNORECASE | re.DOTALL
)


def _canonical(match: re.Match[str]) -> str:
    token = match.group()
    if token.startswith('"'):
        return token
    value = parse_nonfinite(token)
    if value is None or math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def parse_line(line: bytes) -> Json | None:
    """The JSON object on one line, or None for anything else.

    Accepts what strict JSON parsers reject: bare NaN and infinities in any spelling, numbers too
    large for a double, lone surrogates, a byte order mark.
    """
    try:
        value = orjson.loads(line)
    except ValueError:
        value = _parse_lenient(line)
    if not isinstance(value, dict) or (len(line) > SHALLOW and is_too_deep(line, value)):
        return None
    return value


def _parse_lenient(line: bytes) -> object:
    try:
        text = line.decode("utf-8-sig").strip(" \t\r\n")
        if not text.startswith("{"):
            return None
        lowered = line.lower()
        if b"nan" in lowered or b"inf" in lowered:
            text = _BARE_NONFINITE.sub(_canonical, text)
        return json.loads(text, parse_int=_parse_int)
    except (ValueError, RecursionError):
        return None


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) < 20 else float(digits)


def parse_lines(block: bytes) -> tuple[list[Json], int]:
    """The records of a block of complete lines, and the number of invalid lines."""
    records, bad, _ = parse_block(block)
    return records, bad


def parse_block(block: bytes) -> tuple[list[Json], int, bool]:
    """As `parse_lines`, and whether any record may hold an object."""
    if (quickly := _parse_uniform(block)) is not None:
        records, nested = quickly
        return records, 0, nested
    records = []
    bad = 0
    for line in block.split(b"\n"):
        if not line or line.isspace():
            continue
        record = parse_line(line)
        if record is None:
            bad += 1
        else:
            records.append(record)
    return records, bad, block.count(b"{") > len(records)


def _parse_uniform(block: bytes) -> tuple[list[Json], bool] | None:
    """The records of a block with exactly one object per line, and whether there are braces in
    them; None if that is not certain.

    They are parsed together, as an array, in half the time. Every newline stays between a closing
    and an opening brace. No string can contain a newline, and the block contains no array, so that
    only the end of a record looks like this.
    """
    body = block.removesuffix(b"\n")
    if not (body.startswith(b"{") and body.endswith(b"}")) or b"[" in body:
        return None
    letters = np.frombuffer(body, np.uint8)
    newlines = np.flatnonzero(letters == ord("\n"))
    if not (
        len(newlines)
        and bool((letters[newlines - 1] == ord("}")).all())
        and bool((letters[newlines + 1] == ord("{")).all())
    ):
        return None
    braces = int(np.count_nonzero(letters == ord("{"))) - len(newlines)
    if braces > SHALLOW // 2:
        return None
    try:
        records: list[Json] = orjson.loads(b"[" + body.replace(b"\n", b",\n") + b"]")
    except ValueError:
        return None
    return (records, braces > 1) if len(records) == len(newlines) + 1 else None


def read_records(path: Path, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The newest `limit` valid records of a JSON-lines file such as `events.jsonl`."""
    tailer = Tailer(path)
    blocks: list[bytes] = []
    while True:
        chunk = tailer.read(8 << 20)
        blocks.append(chunk.lines)
        if not chunk.more:
            break
    records, _ = parse_lines(b"".join(blocks))
    yield from records if limit is None else records[max(0, len(records) - limit) :]
