"""What a reading mended, replaced or skipped, by file and line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from shared.json_text import encode_line
from shared.text import one_line, plural

#: `refuse` ends at the first problem; `replace` puts U+FFFD for bytes that are not text, and
#: refuses records; `skip` does that too, and leaves out records and files that cannot be read.
OnBad = Literal["refuse", "replace", "skip"]
Action = Literal["mended", "replaced", "skipped"]

_MOST = 100_000  # entries that are kept; more are only counted
_SHOWN = 3


class BadRecordError(Exception):
    """A record that cannot be read; the message continues `FILE line N`."""


@dataclass(frozen=True)
class BadRecord:
    """A problem at a place of a file, such as `line 5`, and what was done about it."""

    path: Path
    place: str
    action: Action
    problem: str

    def __str__(self) -> str:
        where = f" {self.place}" if self.place else ""
        colon = "" if self.problem.startswith(":") else " "
        return one_line(f"{self.path}{where}{colon}{self.problem}", 300)


@dataclass
class Report:
    """The problems of one pass over the files, in their order; `counts` by what each is of."""

    records: list[BadRecord] = field(default_factory=list)
    counts: Counter[tuple[str, Action]] = field(default_factory=Counter)

    def add(self, record: BadRecord) -> None:
        """Add a problem."""
        noun = "line" if record.action == "replaced" else "record" if record.place else "file"
        self.counts[noun, record.action] += 1
        if len(self.records) < _MOST:
            self.records.append(record)

    def to_lines(self) -> bytes:
        """JSON Lines: file, place, action and problem of each."""
        lines = [
            encode_line(
                {
                    "file": str(record.path),
                    "place": record.place,
                    "action": record.action,
                    "problem": record.problem.removeprefix(":").strip(),
                }
            )
            for record in self.records
        ]
        left = self.counts.total() - len(self.records)
        lines += [encode_line({"more": left})] if left else []
        return b"".join(line + b"\n" for line in lines)

    def notes(self, listed_in: Path) -> list[str]:
        """What was done, for a person, and the first problems."""
        if not self.records:
            return []
        told = [
            f"{plural(number, noun)} {action}" for (noun, action), number in self.counts.items()
        ]
        more = self.counts.total() - _SHOWN
        notes = [f"{', '.join(told)}: all are listed in {one_line(listed_in)}"]
        notes += [f"{record.action}: {record}" for record in self.records[:_SHOWN]]
        return [*notes, f"and {more:,} more"] if more > 0 else notes
