"""Outlines of many runs, read in a thread while the table is looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from monitor.data.outline import Outline, read_outline
from monitor.data.views import RunView
from shared.run.directory import RunDirectory

Outlines = Mapping[str, Outline]  # by run id
_TOLD_EVERY = 1.0  # seconds between two reports of what was read
_REST = 0.5  # of the time that a run took, until the next: the screen is drawn meanwhile
_LONGEST_REST = 0.01  # seconds
_AGAIN = 5.0  # seconds after which a run at work is read again


class Outliner:
    """Reads the outline of every run that is wanted, those without one first.

    `tell` is called from the thread with all outlines so far. It reads only while `want` is called
    from time to time, which a table that is not shown does not do.
    """

    def __init__(self, tell: Callable[[Outlines], object]) -> None:
        self._tell = tell
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._wanted: tuple[RunView, ...] = ()
        self._found: dict[str, Outline] = {}
        self._views: dict[str, RunView] = {}  # as they were when they were outlined
        self._read_at: dict[str, float] = {}
        self._metrics_first = False
        self._changed = False
        self._told_at = 0.0
        self._thread: threading.Thread | None = None
        self._stopping = False

    def want(self, runs: Sequence[RunView], *, metrics: bool) -> None:
        """Read these from now on, in this order; the `metrics` of all only after the settings of
        all, unless they are wanted at once.
        """
        with self._guard:
            self._wanted, self._metrics_first = tuple(runs), metrics
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="outlines", daemon=True)
            self._thread.start()
        self._wake.set()

    def stop(self) -> None:
        """Read no more."""
        self._stopping = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            self._read_wanted()

    def _read_wanted(self) -> None:
        """Settings, then metrics, then long logs as a whole, until others are wanted."""
        with self._guard:
            wanted, metrics_first = self._wanted, self._metrics_first
        there = {run.run_id for run in wanted}
        for run_id in [run_id for run_id in self._found if run_id not in there]:
            del self._found[run_id]
            self._changed = True
        due = [run for run in wanted if self._is_due(run)]
        # New ones first: a look at a known one costs two stats.
        due.sort(key=lambda run: run.run_id in self._found)
        for run in due:
            if not metrics_first and not self._read(run, metrics=False):
                return
        for run in due:
            if not self._read(run):
                return
            self._views[run.run_id], self._read_at[run.run_id] = run, time.monotonic()
        self._report()
        for run in wanted:
            found = self._found.get(run.run_id)
            if found is not None and found.can_be_exact and _rests(run):
                if self._wake.is_set() or not self._read(run, exact=True):
                    return
                self._report()

    def _is_due(self, run: RunView) -> bool:
        before = self._views.get(run.run_id)
        if before is run:
            return False
        at_rest = _rests(run)
        if at_rest and before == run:
            return False
        return at_rest or time.monotonic() - self._read_at.get(run.run_id, -_AGAIN) >= _AGAIN

    def _read(self, run: RunView, *, metrics: bool = True, exact: bool = False) -> bool:
        """Read one outline; False if there is nothing more to read for."""
        known, began = self._found.get(run.run_id), time.monotonic()
        found = read_outline(RunDirectory(run.path), known, metrics=metrics, exact=exact)
        self._found[run.run_id] = found
        self._changed |= found is not known
        if time.monotonic() - self._told_at >= _TOLD_EVERY:
            self._report()
        time.sleep(min(_LONGEST_REST, _REST * (time.monotonic() - began)))
        return not self._stopping

    def _report(self) -> None:
        if self._changed:
            self._changed, self._told_at = False, time.monotonic()
            self._tell(MappingProxyType(dict(self._found)))


def _rests(run: RunView) -> bool:
    return not run.alive and run.status != "running"
