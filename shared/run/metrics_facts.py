"""What a metrics log is like, beside its numbers: what was read, what was not, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.json_text import Json
from shared.run.foreign import NONE
from shared.text import one_line, plural

MAX_KEYS = 20  # named of a file that cannot be shown
MAX_PHASES = 2_000


@dataclass
class Facts:
    """What a metrics log is like, beside its numbers. Mergeable: see `merge`."""

    records: int = 0
    bad_lines: int = 0
    last_record: Json = field(default_factory=dict)
    #: Why lines are not shown, with their number.
    reasons: dict[str, int] = field(default_factory=dict)
    #: Keys of records that are not shown.
    keys: list[str] = field(default_factory=list)
    #: Names under which the step was found, other than `step`.
    step_keys: list[str] = field(default_factory=list)
    tier: int = NONE
    #: Records whose step was rounded down.
    rounded: int = 0
    #: Where the newest pass is: its attempt and its last step; -1 before the first record.
    attempt: int = -1
    front: int = -1
    highest: int = -1
    #: (step, name) of each change of phase, by step.
    phases: list[tuple[int, str]] = field(default_factory=list)

    def refuse(self, reason: str, record: Mapping[str, Any] | None = None) -> None:
        """Count a line that is not shown."""
        self.bad_lines += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        for key in record or ():
            if len(self.keys) >= MAX_KEYS:
                return
            if key not in self.keys:
                self.keys.append(key)

    def refuse_many(self, reason: str, count: int) -> None:
        """Count `count` lines that are not shown."""
        if count:
            self.bad_lines += count
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def enter_phase(self, step: int, name: str) -> None:
        """The record of `step` says so; later changes are of a pass that was given up."""
        while self.phases and self.phases[-1][0] >= step:
            self.phases.pop()
        if not self.phases or self.phases[-1][1] != name:
            self.phases.append((step, name))
            del self.phases[:-MAX_PHASES]

    def give_up_records(self) -> None:
        """None of the records is shown: others have a better step key."""
        self.refuse_many("have no step key like the others", self.records)
        self.records, self.last_record, self.rounded = 0, {}, 0
        self.step_keys, self.phases = [], []
        self.attempt = self.front = self.highest = -1

    @property
    def given_up_after(self) -> int | None:
        """The step after which all is of a pass that was given up; None: nowhere."""
        return self.front if 0 <= self.front < self.highest else None

    def merge(self, other: Facts) -> None:
        """Take in those of the lines that follow, of the same tier or of none."""
        self.records += other.records
        self.bad_lines += other.bad_lines
        self.last_record = other.last_record or self.last_record
        for reason, count in other.reasons.items():
            self.reasons[reason] = self.reasons.get(reason, 0) + count
        self.keys += [k for k in other.keys if k not in self.keys][: MAX_KEYS - len(self.keys)]
        self.step_keys += [k for k in other.step_keys if k not in self.step_keys]
        self.rounded += other.rounded
        if other.records and other.attempt >= self.attempt:
            self.attempt, self.front = other.attempt, other.front
        self.highest = max(self.highest, other.highest)
        for step, name in other.phases:
            self.enter_phase(step, name)

    def to_json(self) -> Json:
        """For another process."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Json) -> Facts:
        """The reverse of `to_json`."""
        value = {**value, "phases": [(step, name) for step, name in value["phases"]]}
        return cls(**value)

    def told(self) -> str:
        """Why lines are not shown, in a sentence; "" where all are."""
        if not self.bad_lines:
            return ""
        ordered = sorted(self.reasons.items(), key=lambda item: -item[1])
        shown = "; ".join(_counted(count, reason) for reason, count in ordered[:4])
        text = (
            f"{self.bad_lines:,} of {plural(self.records + self.bad_lines, 'line')} "
            f"{'is' if self.bad_lines == 1 else 'are'} not shown: {shown}"
        )
        if self.keys:
            text += f"; keys found: {', '.join(one_line(key, 40) for key in self.keys)}"
        return text


def _counted(count: int, reason: str) -> str:
    """How many lines have a fault: `3 have no step key`, `1 has no step key`."""
    verb, _, rest = reason.partition(" ")
    one = {"have": "has", "are": "is"}
    return f"{count:,} {one.get(verb, verb) if count == 1 else verb} {rest}"
