"""Reading a foreign run in a test: at once, and grown byte by byte."""

from __future__ import annotations

from pathlib import Path

from shared.foreign.interface import Found, Reader
from shared.foreign.registry import format_named
from shared.foreign.walking import runs_of_file
from shared.run.metrics_log import MetricsTable

Numbers = dict[str, list[tuple[int, str]]]


def numbers(table: MetricsTable) -> Numbers:
    """Every point of every series; as text, because NaN is equal to itself there."""
    found: Numbers = {}
    for key in table.keys():  # noqa: SIM118  not a dict
        series = table.series(key)
        pairs = zip(series.steps.tolist(), series.values.tolist(), strict=True)
        found[key] = [(step, repr(value)) for step, value in pairs]
    return found


def read_all(found: Found) -> Reader:
    """A reader that has come to the end."""
    reader = format_named(found.format).open(found)
    for _ in range(10_000):
        if not reader.poll():
            return reader
    raise AssertionError("it never ends")


def only_run(path: Path) -> Found:
    """The one run in a file."""
    [found] = runs_of_file(path)
    return found
