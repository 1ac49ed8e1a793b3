"""Names of runs in legends: short, and no two alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from shared.text import one_line


def distinct(names: Sequence[str], limit: int) -> list[str]:
    """Each name with at most `limit` characters, cut in the middle; equal ones are numbered."""
    short = [_cut(one_line(name, 4 * limit), limit) for name in names]
    counted, seen, found = Counter(short), Counter[str](), []
    for name in short:
        seen[name] += 1
        number = f" ({seen[name]})" if counted[name] > 1 else ""
        found.append(_cut(name, limit - len(number)) + number)
    return found


def _cut(name: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    tail = (limit - 1) // 2
    return f"{name[: limit - 1 - tail]}…{name[len(name) - tail :]}"
