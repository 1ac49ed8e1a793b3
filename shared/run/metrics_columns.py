"""Parsed records turned into arrays, one column per key."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.json_text import Json, is_number, parse_nonfinite
from shared.run.foreign import MAX_STEP, text_number, text_time
from shared.run.metrics_rows import Floats, Ints

#: The key of each step's Unix time: an axis of charts, not a metric.
TIME = "time"
_MAX_ATTEMPT = 2**31 - 1


def whole_numbers(raw: Sequence[Any] | None, most: int) -> Ints | None:
    """`raw` as an array, if all are integers from 0 to `most`."""
    if raw is None:
        return None
    try:
        numbers = np.frombuffer(struct.pack(f"={len(raw)}q", *raw), np.int64)
    except struct.error:  # not an integer, or too large for one
        return None
    least, greatest = numbers.min(), numbers.max()
    if least < 0 or greatest > most or (least <= 1 and bool in set(map(type, raw))):
        return None
    return numbers


def attempts_of(raw: Sequence[Any] | None, records: list[Json]) -> NDArray[np.int32]:
    """The attempt of each record; `raw` holds them if every record has one."""
    if raw is None:
        raw = [record.get("attempt", 0) for record in records]
    numbers = whole_numbers(raw, _MAX_ATTEMPT)
    if numbers is None:
        numbers = np.array([min(as_step(x) or 0, _MAX_ATTEMPT) for x in raw], np.int64)
    return numbers.astype(np.int32)


def named_nonfinite(records: list[Json]) -> list[Json]:
    """The `nonfinite` object of each record."""
    named = (record.get("nonfinite") for record in records)
    return [names if isinstance(names, dict) else {} for names in named]


Sparse = dict[str, tuple[list[int], list[Any]]]


def by_column(records: list[Json]) -> tuple[dict[str, Sequence[Any]], Sparse]:
    """Values of the keys that all records have; values of other keys with record indices."""
    sizes = set(map(len, records))
    complete = min(sizes)
    keys = list(next(record for record in records if len(record) == complete))
    try:
        # At least two keys, so that itemgetter returns tuples.
        rows = list(map(itemgetter(*keys, *keys[:1]), records)) if keys else []
    except KeyError:
        shared = set(keys).intersection(*records)
        keys, complete = [key for key in keys if key in shared], -1
        rows = [tuple(record[key] for key in keys) for record in records]
    common: dict[str, Sequence[Any]] = dict(zip(keys, zip(*rows, strict=True), strict=False))
    sparse: Sparse = {}
    if sizes == {complete}:
        return common, sparse
    for index, record in enumerate(records):
        if len(record) == complete:
            continue  # it has exactly these keys
        for key, value in record.items():
            if key not in common:
                at, raw = sparse.setdefault(key, ([], []))
                at.append(index)
                raw.append(value)
    return common, sparse


def convert(
    key: str,
    raw: Sequence[Any],
    at: list[int] | None,
    named: list[Json] | None,
    found: dict[tuple[int, ...] | None, dict[str, Floats]],
) -> None:
    """Put the numbers among `raw` into `found`, under the indices of their records (None: all)."""
    with contextlib.suppress(OverflowError, struct.error):  # too large, or not a number
        numbers = np.frombuffer(struct.pack(f"={len(raw)}d", *raw))
        # True and false are packed as 1 and 0: only then are the types looked at.
        packed = not bool(((numbers == 0.0) | (numbers == 1.0)).any())
        if packed or bool not in set(map(type, raw)):
            found.setdefault(None if at is None else tuple(at), {})[key] = numbers
            return
    if named is None and not set(map(type, raw)) & {float, int, str}:
        return
    indices = range(len(raw)) if at is None else at
    spelled = text_time if key == TIME else text_number
    values = [
        as_value(value, named[i].get(key) if named else None, spelled)
        for i, value in zip(indices, raw, strict=True)
    ]
    kept = [i for i, value in zip(indices, values, strict=True) if value is not None]
    if not kept:
        return
    whole = at is None and len(kept) == len(values)
    found.setdefault(None if whole else tuple(kept), {})[key] = np.array(
        [value for value in values if value is not None], np.float64
    )


def as_step(raw: object) -> int | None:
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= MAX_STEP:
        return raw
    return None


def as_value(
    raw: object, nonfinite: object, spelled: Callable[[str], float | None] = text_number
) -> float | None:
    """The number that `raw` is or spells; `nonfinite` names it where `raw` is null."""
    if raw is None:
        return parse_nonfinite(nonfinite) if isinstance(nonfinite, str) else None
    if isinstance(raw, str):
        value = parse_nonfinite(raw)
        return spelled(raw) if value is None else value
    if not is_number(raw):
        return None
    try:
        return float(raw)  # type: ignore[arg-type]
    except OverflowError:
        return float("inf") if raw > 0 else float("-inf")  # type: ignore[operator]
