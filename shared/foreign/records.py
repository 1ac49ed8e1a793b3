"""What readers of other tools' records have in common."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from shared.foreign.files_below import Seen, seen_at
from shared.json_text import Json, is_number, parse_nonfinite
from shared.run.foreign import flattened
from shared.run.records import RECORD_KEYS
from shared.text import plural

#: Keys with which a record says something else of itself than a value; see `MetricsTable`.
_TAKEN = RECORD_KEYS | {"step"}
_MOST_CONFIG = 2_000


def looked_through(
    paths: Iterable[Path], is_log: Callable[[Path], bool | None]
) -> tuple[list[Path], tuple[tuple[Path, Seen], ...]]:
    """Those that are logs, and those that may become one without their folder's time telling.

    A file that cannot be read hides no other one.
    """
    found: list[Path] = []
    watched: list[tuple[Path, Seen]] = []
    for path in sorted(paths):
        seen = seen_at(path)
        try:
            told = is_log(path)
        except OSError:
            continue
        if told:
            found.append(path)
        elif told is None:
            watched.append((path, seen))
    return found, tuple(watched)


def share_of(read: int, paths: Iterable[Path]) -> float:
    """`read` bytes as a share of files' sizes; 1 where there is nothing to read."""
    size = 0
    for path in paths:
        try:
            size += path.stat().st_size
        except OSError:
            continue
    return min(1.0, read / size) if size else 1.0


def types_not_drawn(counts: Counter[str]) -> tuple[str, ...]:
    """Sentences on values that are no numbers, counted by type."""
    return tuple(
        f"{plural(count, 'value')} of type {kind} {'is' if count == 1 else 'are'} not drawn"
        for kind, count in counts.most_common(20)
    )


def free_key(key: str) -> str:
    """`key`, or another one where ours means something else."""
    return f"logged/{key}" if key in _TAKEN else key


def with_numbers(values: Mapping[str, Any]) -> Json:
    """The metrics of a flat record; NaN and infinities may be text."""
    found: Json = {}
    for key, value in values.items():
        number = parse_nonfinite(value) if isinstance(value, str) else value
        if is_number(number):
            found[free_key(key)] = number
    return found


def config_of(values: Mapping[str, Any], left_out: Iterable[str] = ()) -> dict[str, str]:
    """A nested configuration as text by dotted keys, without what the tool keeps there."""
    kept = {key: value for key, value in values.items() if key not in left_out}
    found = list(flattened(kept).items())[:_MOST_CONFIG]
    return {key: value if isinstance(value, str) else _text(value) for key, value in found}


def _text(value: Any) -> str:
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return "…"
