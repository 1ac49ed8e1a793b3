"""The thread that looks at the files and hands over snapshots."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from monitor.data.follower import RunFollower
from monitor.data.hints import Hints
from monitor.data.scanner import RunScanner
from monitor.data.views import RunDetail, RunView, Snapshot
from shared.run_directory import RunDirectory
from shared.text import one_line

DEFAULT_POLL = 0.5  # seconds
MIN_GAP = 0.2  # seconds between looks at a busy run; a quiet one's first line is read at once
#: Seconds of reading before what there is gets shown: soon at first, then seldom, because
#: drawing takes time from reading.
READ_TIME, LATER_READ_TIME = 0.1, 0.5
KEPT_FOLLOWERS = 4  # runs whose parsed metrics are kept after the selection left them
_HINTED_SCANS = 0.25  # seconds between looks at all runs, however many hints come

Publish = Callable[[Snapshot], None]


class Source(Protocol):
    """Where the app's snapshots come from."""

    def start(self, publish: Publish) -> None:
        """Begin to call `publish`, from any thread."""

    def select(self, run_id: str | None) -> None:
        """Follow this run from now on."""

    def refresh(self) -> None:
        """Look again now, at everything."""

    def stop(self) -> None:
        """Call `publish` no more."""


class Poller:
    """A `Source` that reads a runs directory: always by polling, sooner where hinted to."""

    def __init__(
        self,
        runs_dir: Path,
        poll: float = DEFAULT_POLL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runs_dir = runs_dir
        self._poll = poll
        self._clock = clock
        self._scanner = RunScanner(runs_dir, clock)
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._hints = Hints(runs_dir, self._wake.set)
        self._stopping = False
        self._fresh = True
        self._wanted: str | None = None
        self._followers: OrderedDict[str, RunFollower] = OrderedDict()
        self._following: str | None = None
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)
        self._publish: Publish = lambda _: None
        self._runs: tuple[RunView, ...] = ()
        self._problem = ""

    def start(self, publish: Publish) -> None:
        """Begin to look."""
        self._publish = publish
        self._thread.start()

    def select(self, run_id: str | None) -> None:
        """Follow this run from now on."""
        self._wanted = run_id
        self._hurry()

    def refresh(self) -> None:
        """Look again now, at everything, and publish even if nothing changed."""
        self._fresh = True
        self._hurry()

    def stop(self) -> None:
        """Stop looking and wait for the thread."""
        self._stopping = True
        self._hurry()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    def _hurry(self) -> None:
        self._urgent.set()
        self._wake.set()

    def _run(self) -> None:
        self._hints.start()
        scanned_at = -1e9
        try:
            while not self._stopping:
                began = time.monotonic()
                self._wake.clear()
                self._urgent.clear()
                fresh, self._fresh = self._fresh, False
                changed = fresh
                if fresh or began - scanned_at >= min(self._poll, _HINTED_SCANS):
                    scanned_at = began
                    changed |= self._scan()
                grown, more = self._follow()
                if (changed or grown) and not self._stopping:
                    self._publish(self._snapshot())
                self._hints.rest(growing=grown)
                self._pause(began, MIN_GAP if self._hints.busy else self._poll, more)
        finally:
            self._hints.stop()

    def _pause(self, began: float, wait: float, more: bool) -> None:
        """Sleep until there is something to do; only a person may shorten MIN_GAP."""
        if more:
            return
        self._wake.wait(max(0.0, wait - (time.monotonic() - began)))
        self._urgent.wait(max(0.0, MIN_GAP - (time.monotonic() - began)))

    def _scan(self) -> bool:
        try:
            runs, problem = self._scanner.scan(), ""
        except OSError as error:
            runs, problem = (), f"{one_line(self._runs_dir)} cannot be read: {error.strerror}"
        changed = (runs, problem) != (self._runs, self._problem)
        self._runs, self._problem = runs, problem
        return changed

    def _follow(self) -> tuple[bool, bool]:
        """Read on in the selected run for a while; (something changed, more waits)."""
        wanted = self._wanted
        changed = wanted != self._following
        self._following = wanted
        follower = self._followers.get(wanted or "")
        if follower is None:
            follower = self._open(wanted)
        if changed:
            self._hints.follow(follower.run.path if follower else None)
        if follower is None:
            return changed, False
        self._followers.move_to_end(follower.run.run_id)
        deadline = time.monotonic() + (READ_TIME if changed else LATER_READ_TIME)
        while True:
            changed |= follower.poll()
            if not follower.more or time.monotonic() >= deadline or self._wanted != wanted:
                return changed, follower.more

    def _open(self, run_id: str | None) -> RunFollower | None:
        view = next((r for r in self._runs if r.run_id == run_id), None)
        if view is None:
            return None
        follower = self._followers[view.run_id] = RunFollower(RunDirectory(view.path))
        if len(self._followers) > KEPT_FOLLOWERS:
            self._followers.popitem(last=False)
        return follower

    def _snapshot(self) -> Snapshot:
        follower = self._followers.get(self._following or "")
        detail = follower.detail() if follower else None
        return Snapshot(
            runs_dir=one_line(self._runs_dir),
            taken_at=self._clock(),
            runs=tuple(_newest(view, detail) for view in self._runs) if detail else self._runs,
            detail=detail,
            problem=self._problem,
        )


def _newest(view: RunView, detail: RunDetail) -> RunView:
    """`view` brought up to its metrics, which are ahead of the state by up to a second."""
    if view.run_id != detail.run_id or detail.loading is not None or not len(detail.loss):
        return view
    step, loss = int(detail.loss.steps[-1]), float(detail.loss.values[-1])
    if step <= view.step or not view.alive or detail.loss.key != "loss":
        return view
    return dataclasses.replace(view, step=step, loss=loss)


def read_once(runs_dir: Path, run: RunDirectory | None = None) -> Snapshot:
    """One complete look: every run, and everything of `run` if given.

    Raises OSError when the folder cannot be read.
    """
    runs = RunScanner(runs_dir, time.time).scan()
    detail = None
    if run is not None:
        follower = RunFollower(run)
        while True:
            follower.poll()
            if not follower.more:
                break
        detail = follower.detail()
    return Snapshot(one_line(runs_dir), time.time(), runs, detail)
