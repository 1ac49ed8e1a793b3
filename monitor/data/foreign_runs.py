"""The list's other runs: those that other tools have written, found again and again."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from monitor.data.foreign_view import told_by
from monitor.data.outline import Extents
from monitor.data.views import RunView
from shared.foreign.guarded import open_reader
from shared.foreign.interface import Found, Reader
from shared.foreign.registry import format_named
from shared.foreign.walking import Walk
from shared.ownership.health import STALLED_AFTER
from shared.run.records import ENDED_STATUSES
from shared.text import format_time, one_line

_WALK_AGAIN = 5.0  # seconds between two looks for new runs
_LOOK_AGAIN = 2.0  # between two looks whether a run has grown
_SELDOM = 5.0  # times as long between two looks at a run that rests
_READING = 0.02  # seconds of reading at each scan
_PROBLEM_AGAIN = 10.0  # before what could not be read is tried once more
_KEPT = 20  # runs at work whose readers stay open


@dataclass(eq=False)
class _Known:
    """What is remembered of one run between looks; `reader` while it is read."""

    found: Found
    view: RunView
    written_at: float = -1.0
    read_at: float = -2.0
    looked_at: float = -1e9
    reader: Reader | None = None
    extents: Extents = field(default_factory=Extents)
    #: The number of its last reading to the end.
    turn: int = 0
    #: When a problem is looked at again: a database may have been locked while it was written to.
    again_at: float = math.inf

    @property
    def is_due(self) -> bool:
        """Whether it has been written to since it was read."""
        if self.written_at < 0:
            return False
        return self.read_at != self.written_at or time.monotonic() >= self.again_at


class ForeignRuns:
    """Runs of other tools in a folder and below. Of each, step and newest values are read."""

    def __init__(self, root: Path, *, only: Sequence[Found] | None = None) -> None:
        """`only` are the runs of a file, where there is no folder to look through."""
        self._root = root
        self._only = only
        self._walk = Walk(root)
        self._known: dict[Found, _Known] = {}
        self._walked_at = self._looked_at = -1e9
        self._turn = 0

    @property
    def views(self) -> tuple[RunView, ...]:
        """All of them, as the last `scan` saw them."""
        return tuple(known.view for known in self._known.values())

    @property
    def notice(self) -> str:
        """What could not be searched for them, in a sentence; empty if nothing."""
        return self._walk.notice

    @property
    def more(self) -> bool:
        """Whether the next `scan` has something to read."""
        return any(known.is_due for known in self._known.values())

    def scan(self, now: float, *, fresh: bool = False, own: Collection[str] = ()) -> bool:
        """Look again, where it is time to; True when something has changed.

        `own` are the names of our own run directories in the folder.
        """
        tick = time.monotonic()
        changed = False
        if fresh or tick - self._walked_at >= _WALK_AGAIN:
            self._walked_at = tick
            if self._only is None:
                found = self._walk.find(fresh=fresh, own=own)
            else:
                found = list(self._only)
            changed = self._take_up(found)
            self._looked_at = -1e9
        if tick - self._looked_at >= _LOOK_AGAIN:
            self._looked_at = tick
            for known in list(self._known.values()):
                # What nobody writes to is looked at less often.
                idle = min(_SELDOM, max(0.0, now - known.written_at) / STALLED_AFTER)
                if fresh or tick - known.looked_at >= _LOOK_AGAIN * idle:
                    known.looked_at = tick
                    changed |= self._look(known, now)
        return self._read() or changed

    def _take_up(self, found: Sequence[Found]) -> bool:
        gone = self._known.keys() - set(found)
        for one in gone:
            self._close(self._known.pop(one))
        new = [one for one in found if one not in self._known]
        taken = {known.view.run_id for known in self._known.values()}
        for one in new:
            run_id = _run_id(self._root, one, taken)
            taken.add(run_id)
            self._known[one] = _Known(one, _first_view(run_id, one))
        return bool(gone or new)

    def _look(self, known: _Known, now: float) -> bool:
        """Whether it is written to; True when its view is another one."""
        try:
            known.written_at = format_named(known.found.format).written_at(known.found)
        except OSError:
            return False
        told = known.view
        status, reason = told.status, told.reason
        if status not in ENDED_STATUSES:
            status = "running" if now - known.written_at < STALLED_AFTER else "idle"
            reason = "" if status == "running" else _last_written(known)
        view = dataclasses.replace(told, status=status, reason=reason, updated_at=known.written_at)
        if view == told:
            return False
        known.view = view
        return True

    def _read(self) -> bool:
        """Read on in those that have grown, for a moment in all."""
        deadline = time.monotonic() + _READING
        changed = False
        # Whoever has waited longest comes first: the runs of one database are all due together,
        # and again before the last of them has had its turn.
        due = [known for known in self._known.values() if known.is_due]
        for known in sorted(due, key=lambda known: known.turn):
            written_at = known.written_at
            if known.reader is None:
                known.reader = open_reader(known.found)
            while more := known.reader.poll():
                if time.monotonic() >= deadline:
                    return changed
            if not more:
                once_more = known.reader.facts.problem and known.read_at != written_at
                known.again_at = time.monotonic() + _PROBLEM_AGAIN if once_more else math.inf
                known.read_at = written_at
                self._turn += 1
                known.turn = self._turn
                before = known.view
                known.view = told_by(before, known.reader, known.extents)
                changed |= known.view.outline is not before.outline
                changed |= repr(before) != repr(known.view)  # NaN is equal to itself there
                if known.view.status != "running" or self._open_readers() > _KEPT:
                    self._close(known)
            if time.monotonic() >= deadline:
                break
        return changed

    def _open_readers(self) -> int:
        return sum(known.reader is not None for known in self._known.values())

    def _close(self, known: _Known) -> None:
        reader, known.reader, known.extents = known.reader, None, Extents()
        if reader is not None:
            reader.close()


def _first_view(run_id: str, found: Found) -> RunView:
    label = one_line(run_id, 120)
    return RunView(
        run_id=run_id,
        path=found.path,
        label=label,
        name=one_line(found.name or run_id, 120),
        status="idle",
        reason=f"written by another program ({found.format})",
        alive=False,
        stateless=True,
        foreign=found,
    )


def _run_id(root: Path, found: Found, taken: set[str]) -> str:
    """Where it is, seen from the folder; numbered where another run is called that."""
    try:
        place = found.path.relative_to(root).as_posix()
    except ValueError:
        place = found.path.name
    if place == ".":
        place = found.name or found.path.resolve().name
    base = f"{place}/{found.name or found.key}" if found.key else place
    run_id, number = base, 2
    while run_id in taken:
        run_id, number = f"{base} ({number})", number + 1
    return run_id


def _last_written(known: _Known) -> str:
    return f"{known.found.format}; last written {format_time(known.written_at)}"
