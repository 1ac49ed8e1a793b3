"""What is noted about each shard while a set is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from shared.files import read_json
from trainer.data.bad_records import BadRecord, Report
from trainer.data.read_counts import ReadCounts
from trainer.data.shards.manifest import Shard

#: Behind the name of a shard: its sidecar, which is written when it is finished.
MARKER = ".json"
SURVEY = ".survey.json"
VALIDATION_PART = ".val"
HASHES = ".hashes"


def read_record(place: Path) -> tuple[Shard, Shard, dict[str, Any]] | None:
    """The finished shard at `place`, its part of the validation tokens, and what else was told;
    None if it is not finished."""
    content = read_json(place.with_name(place.name + MARKER)) or {}
    known = {field.name for field in fields(Shard)}
    try:
        train, val = (
            Shard(**{key: value for key, value in content[name].items() if key in known})
            for name in ("shard", "val")
        )
        return train, val, dict(content["told"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None


def read_survey(place: Path) -> dict[str, Any] | None:
    """What was counted for the shard at `place`; None if it has not been counted."""
    return read_json(place.with_name(place.name + SURVEY))


def report_to_plain(report: Report) -> dict[str, Any]:
    """A report for JSON."""
    records = [[str(r.path), r.place, r.action, r.problem] for r in report.records]
    counts = [[noun, action, number] for (noun, action), number in report.counts.items()]
    return {"records": records, "counts": counts}


def merged_report(surveys: Sequence[dict[str, Any]]) -> Report:
    """The reports of all shards as one."""
    whole = Report()
    for survey in surveys:
        for path, place, action, problem in survey["report"]["records"]:
            whole.add(BadRecord(Path(path), place, action, problem))
    # Each report lists so many, but counts all.
    whole.counts = Counter()
    for survey in surveys:
        for noun, action, number in survey["report"]["counts"]:
            whole.counts[noun, action] += number
    return whole


def counts_to_plain(counts: ReadCounts) -> dict[str, Any]:
    """Counts for JSON."""
    plain = {field.name: getattr(counts, field.name) for field in fields(ReadCounts)}
    return plain | {"marked": dict(counts.marked)}


def merged_counts(surveys: Iterable[dict[str, Any]]) -> ReadCounts:
    """The counts of all shards as one."""
    whole = ReadCounts()
    for survey in surveys:
        for field in fields(ReadCounts):
            value = survey["counts"][field.name]
            if field.name == "marked":
                whole.marked += Counter(value)
            else:
                setattr(whole, field.name, getattr(whole, field.name) + value)
    return whole
