"""Numbers out of records in which anything may stand."""

from __future__ import annotations

import math

_LARGEST = 1e300
_LARGEST_STEP = 1 << 53


def finite(value: object) -> float | None:
    """`value` as a finite float a chart can bear; None for anything else."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if not -_LARGEST < value < _LARGEST:  # false for NaN too
        return None
    return float(value)


def whole(value: object) -> int | None:
    """`value` as a step or count; None for anything else."""
    number = finite(value)
    if number is None or abs(number) > _LARGEST_STEP or math.floor(number) != number:
        return None
    return int(number)
