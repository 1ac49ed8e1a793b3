"""A reader of whatever lies in a file: an error in it is a problem of that run, and of no other."""

from __future__ import annotations

from shared.foreign.interface import ForeignFacts, Found, Reader
from shared.foreign.registry import format_named
from shared.run.metrics_log import MetricsTable
from shared.text import one_line

_LATEST = 1e11


def open_reader(found: Found) -> Reader:
    """The reader of a run, which raises nothing."""
    try:
        reader = format_named(found.format).open(found)
    except Exception as error:  # a file may hold anything
        return _Unreadable(ForeignFacts(name=found.name, problem=_words(error)))
    return _Guarded(reader)


class _Guarded:
    """Passes everything on until the reader has failed; what it had read stays."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.facts = reader.facts
        self._failed = False

    @property
    def table(self) -> MetricsTable:
        return self._reader.table

    @property
    def share_read(self) -> float:
        return self._reader.share_read

    def poll(self) -> bool:
        if self._failed:
            return False
        try:
            more = self._reader.poll()
            self.facts.started_at = _moment(self.facts.started_at)
            self.facts.ended_at = _moment(self.facts.ended_at)
            return more
        except Exception as error:  # a file may hold anything
            self._failed = True
            self.facts.problem = _words(error)
            return False

    def close(self) -> None:
        self._reader.close()


class _Unreadable:
    """In place of a reader that could not be made."""

    share_read = 1.0

    def __init__(self, facts: ForeignFacts) -> None:
        self.facts = facts
        self.table = MetricsTable()

    def poll(self) -> bool:
        return False

    def close(self) -> None:
        pass


def _moment(seconds: float | None) -> float | None:
    """A time in Unix seconds that a calendar has."""
    return seconds if seconds is not None and 0 < seconds < _LATEST else None


def _words(error: Exception) -> str:
    return f"it cannot be read: {one_line(error, 200) or type(error).__name__}"
