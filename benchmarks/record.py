"""What a benchmark found: rows, and the numbers to hold with what came out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One figure; `ratio` is this figure over the `peer`'s, in the same unit."""

    what: str
    value: float
    unit: str
    peer: str = ""
    ratio: float | None = None


@dataclass(frozen=True)
class Hold:
    """A number to hold, as words, what was measured, and whether it holds."""

    number: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Result:
    """All that one benchmark has to say. `notes` are sentences under the table."""

    rows: list[Row]
    holds: list[Hold] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every number holds."""
        return all(hold.holds for hold in self.holds)

    def to_json(self) -> str:
        """For the runner, which has every benchmark in a process of its own."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Result:
        """The other way."""
        plain = json.loads(text)
        return cls(
            [Row(**row) for row in plain["rows"]],
            [Hold(**hold) for hold in plain["holds"]],
            plain["notes"],
        )


def shown(value: float) -> str:
    """Three or four digits that matter, thousands separated."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def as_markdown(result: Result) -> str:
    """The table of the figures and the list of numbers to hold."""
    peers = any(row.ratio is not None for row in result.rows)
    lines = ["| what | value | unit |" + (" against |" if peers else "")]
    lines.append("|---|---:|---|" + ("---|" if peers else ""))
    for row in result.rows:
        line = f"| {row.what} | {shown(row.value)} | {row.unit} |"
        if peers:
            against = f"{row.ratio:.2f}x {row.peer}" if row.ratio is not None else ""
            line += f" {against} |"
        lines.append(line)
    if result.notes:
        lines += ["", " ".join(result.notes)]
    if result.holds:
        lines += [""]
    for hold in result.holds:
        verdict = "holds" if hold.holds else "**does not hold**"
        lines.append(f"- {hold.number}: {hold.measured}, {verdict}")
    return "\n".join(lines)


def report(result: Result, json_path: Path | None = None) -> int:
    """Print the result (and write it for the runner); the exit status is 1 if a number fails."""
    print(as_markdown(result), flush=True)
    if json_path:
        json_path.write_text(result.to_json(), encoding="utf-8")
    return 0 if result.passed else 1


def run_alone(doc: str | None, measure: Callable[..., Result]) -> int:
    """The command line of a benchmark that needs nothing but `--quick`."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer repeats, rougher figures")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    return report(measure(quick=options.quick), options.json)
