"""What rustc says, as JSON, and which of the crate's files it says it about."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Sentences at the end that are about no place.
_SUMMARIES = ("aborting due to", "could not compile")


@dataclass(frozen=True)
class Place:
    """A line of a file."""

    file: str
    line: int


@dataclass(frozen=True)
class Diagnostic:
    """An error or a warning. `places` are those it is about; without one it is about the crate."""

    level: str
    code: str  # `E0308`, the name of a lint, or empty
    message: str
    places: tuple[Place, ...]


def read_diagnostics(output: bytes) -> list[Diagnostic] | None:
    """The diagnostics in what rustc wrote; None if not all of it can be read."""
    found = []
    for line in output.splitlines():
        try:
            told = json.loads(line)
            level, message = told["level"], told["message"]
            if level.startswith("failure-note") or message.startswith(_SUMMARIES):
                continue
            code = (told["code"] or {}).get("code") or ""
            places = tuple(dict.fromkeys(_places(told)))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        found.append(
            Diagnostic("error" if level.startswith("error") else level, code, message, places)
        )
    return found


def _places(told: Mapping[str, Any]) -> Iterator[Place]:
    spans = told["spans"]
    for primary in [s for s in spans if s["is_primary"]] or spans:
        span = primary
        while span is not None:
            yield Place(span["file_name"], int(span["line_start"]))
            expansion = span.get("expansion")
            span = expansion["span"] if expansion else None
