"""Outlines of many runs, read in a thread while the table is looked at."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from monitor.data.outline import Outline, read_outline
from monitor.data.views import RunView
from shared.run.directory import RunDirectory

Outlines = Mapping[str, Outline]  # by run id
_TOLD_EVERY = 1.0  # seconds between two reports of what was read
_REST = 0.5  # of the time that a run took, until the next: the screen is drawn meanwhile
_LONGEST_REST = 0.01  # seconds
_AGAIN = 5.0  # seconds after which a run at work is read again


class Reader(Protocol):
    """Reads the outline of one run, as `read_outline` does."""

    def __call__(
        self, run: RunDirectory, known: Outline | None, /, *, metrics: bool, exact: bool
    ) -> Outline:
        """`known` itself if it tells the same."""


@dataclass(frozen=True)
class _Known:
    """What was read of a run. `view` is the run as it was when it was read with its metrics, at
    `read_at`; None: only its settings were. `failed`: something in its files could not be read.
    """

    outline: Outline
    view: RunView | None = None
    read_at: float = -math.inf
    failed: bool = False


class Outliner:
    """Reads the outline of every run that is wanted, those without one first.

    `tell` is called from the thread with all outlines so far. It reads only while `want` is called
    from time to time, which a table that is not shown does not do.
    """

    def __init__(self, tell: Callable[[Outlines], object], *, read: Reader = read_outline) -> None:
        self._tell, self._read_outline = tell, read
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._wanted: tuple[RunView, ...] = ()
        self._metrics = False
        self._wishes = 0  # how often other runs, or metrics, were wanted
        self._known: dict[str, _Known] = {}
        self._changed = False
        self._told_at = 0.0
        self._thread: threading.Thread | None = None
        self._stopping = False

    def want(self, runs: Sequence[RunView], *, metrics: bool) -> None:
        """Read these from now on, in this order.

        Where `metrics` are wanted, they are read at once, and then long logs as a whole; elsewhere
        the metrics of all only after the settings of all.
        """
        before = [run.run_id for run in self._wanted], self._metrics
        with self._guard:
            self._wanted, self._metrics = tuple(runs), metrics
            self._wishes += before != ([run.run_id for run in runs], metrics)
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
            wanted, metrics, wish = self._wanted, self._metrics, self._wishes
        there = {run.run_id for run in wanted}
        for run_id in [run_id for run_id in self._known if run_id not in there]:
            del self._known[run_id]
            self._changed = True
        due = [run for run in wanted if self._is_due(run)]
        # New ones first: a look at a known one costs two stats.
        due.sort(key=lambda run: self._view(run) is not None)
        for run in due:
            if metrics or run.run_id in self._known:
                continue
            if self._is_over(wish):
                return
            self._read(run, metrics=False)
        for run in due:
            if self._is_over(wish):
                return
            self._read(run)
        self._report()
        for run in wanted if metrics else ():
            known = self._known.get(run.run_id)
            if known is None or known.failed or not known.outline.can_be_exact or not _rests(run):
                continue
            if self._wake.is_set() or self._is_over(wish):
                return
            self._read(run, exact=True)
            self._report()

    def _is_over(self, wish: int) -> bool:
        """Whether there is something else to do than what was wanted then."""
        return self._stopping or wish != self._wishes

    def _view(self, run: RunView) -> RunView | None:
        known = self._known.get(run.run_id)
        return None if known is None else known.view

    def _is_due(self, run: RunView) -> bool:
        before = self._view(run)
        if before is None:
            return True
        if before is run:
            return False
        at_rest = _rests(run)
        if at_rest and before == run:
            return False
        return at_rest or time.monotonic() - self._known[run.run_id].read_at >= _AGAIN

    def _read(self, run: RunView, *, metrics: bool = True, exact: bool = False) -> None:
        """Read one outline. Whatever is wrong with one run, the others are read."""
        known, began, failed = self._known.get(run.run_id), time.monotonic(), False
        before = None if known is None else known.outline
        if run.foreign is not None:  # the scanner reads those
            self._known[run.run_id] = _Known(run.outline or Outline(), run, began)
            self._changed |= run.outline is not before
            return
        try:
            found = self._read_outline(RunDirectory(run.path), before, metrics=metrics, exact=exact)
        except Exception:
            found, failed = before or Outline(), True
        now = time.monotonic()
        self._known[run.run_id] = (
            _Known(found, run, now, failed) if metrics else _Known(found, failed=failed)
        )
        self._changed |= found is not before
        if now - self._told_at >= _TOLD_EVERY:
            self._report()
        time.sleep(min(_LONGEST_REST, _REST * (now - began)))

    def _report(self) -> None:
        if self._changed:
            self._changed, self._told_at = False, time.monotonic()
            found = {run_id: known.outline for run_id, known in self._known.items()}
            self._tell(MappingProxyType(found))


def _rests(run: RunView) -> bool:
    return not run.alive and run.status != "running"
