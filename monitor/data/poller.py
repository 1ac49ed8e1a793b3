"""The thread that reads the files and publishes snapshots."""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from monitor.data.follower import RunFollower, follower_of
from monitor.data.machine import Machine, MachineView
from monitor.data.newest import differ, newest_of
from monitor.data.pace import Pace, Thrift
from monitor.data.scanner import RunScanner
from monitor.data.views import RunView, Snapshot
from shared.foreign.interface import Found
from shared.ownership.health import observe
from shared.run.directory import RunDirectory
from shared.text import one_line

if TYPE_CHECKING:
    from monitor.data.hints import Hints
    from monitor.data.remote_machine import RemoteMachine
    from shared.remote.watching import RemoteRuns

DEFAULT_POLL = 0.5  # seconds
#: Reads per second, and how many may follow each other after a pause: a single event is read at
#: once, a steady stream is not drawn line by line.
LOOKS_PER_SECOND, BURST = 8.0, 6
#: Seconds between looks at a run that changes all the time, at least and at most…
BUSY_GAP, BUSY_MOST = 0.2, 1.0
#: …so that they and what is drawn of them take no more than so much of a core: monitors share the
#: machine with a trainer, and its caches, and there may be ten of them.
BUSY_SHARE = 0.015
#: Seconds of reading before a snapshot is published: soon at first, then rarely, because drawing
#: takes time from reading.
READ_TIME, LATER_READ_TIME = 0.1, 0.75
#: Bytes of parsed metrics kept in total. Beyond it, runs left earlier are dropped and marked ones
#: stay approximate; the selected run is always read in full.
MEMORY = 192 << 20
KEPT_FOLLOWERS = 8  # runs kept after the selection left them
_HINTED_SCANS = 0.25  # seconds between looks at all runs, however many hints come
_PATIENCE = 1.0  # seconds that leaving waits for a disk
#: Seconds without a snapshot after which a state that only repeats the metrics is shown.
_REPEATED = 1.0
_SPARK_TIME, _SPARK_REST = 0.02, 0.03  # seconds of making sparklines, and of a pause after them
_MACHINE_EVERY = 3.0  # seconds
_MACHINE_WAIT = 0.5  # seconds that one look waits for a driver

Publish = Callable[[Snapshot], None]


class Source(Protocol):
    """Where the app's snapshots come from."""

    def start(self, publish: Publish) -> None:
        """Begin to call `publish`, from any thread."""

    def select(self, run_id: str | None) -> None:
        """Follow this run from now on."""

    def follow(self, run_ids: frozenset[str]) -> None:
        """Follow these too, beside the selected one."""

    def refresh(self) -> None:
        """Read everything again now."""

    def stop(self) -> None:
        """Stop calling `publish`."""


class Poller:
    """A `Source` that reads a runs directory: by polling, and sooner on hints."""

    def __init__(
        self,
        runs_dir: Path,
        poll: float = DEFAULT_POLL,
        clock: Callable[[], float] = time.time,
        *,
        machine: Machine | RemoteMachine | None = None,
        memory: int = MEMORY,
        hints: Callable[[Path, Callable[[], None]], Hints] | None = None,
        only: Sequence[Found] | None = None,
        elsewhere: RemoteRuns | None = None,
    ) -> None:
        """`only` are runs of other tools in one file, shown alone.

        `elsewhere` are the runs of other hosts, of which `runs_dir` is a copy.
        """
        self._elsewhere = elsewhere
        self._runs_dir = runs_dir
        self._poll = poll
        self._clock = clock
        self._memory = memory
        self._scanner = _scanner(runs_dir, clock, only, elsewhere)
        self._machine = machine or _machine(runs_dir, elsewhere)
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._make_hints = hints
        self._hints: Hints | None = None
        self._pace = Pace(LOOKS_PER_SECOND, BURST)
        self._thrift = Thrift(BUSY_GAP, BUSY_SHARE)
        self._stopping = False
        self._fresh = True
        self._selected: str | None = None
        self._marked: frozenset[str] = frozenset()
        self._followers: OrderedDict[str, RunFollower] = OrderedDict()
        self._following: tuple[str, ...] = ()
        #: The run that was asked for, and the one whose detail is the snapshot's.
        self._shown: tuple[str | None, str | None] = (None, None)
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)
        self._publish: Publish = lambda _: None
        self._runs: tuple[RunView, ...] = ()
        self._problem = self._notice = ""
        self._watched = False
        #: Whether a state has only said again what the metrics had; and when all was published.
        self._repeated, self._published_at = False, -math.inf
        self._sparks_due = False
        self._machine_seen: object = None
        self._scanned_at, self._machine_at = -math.inf, time.monotonic()
        #: What was published last, or will be by `start`.
        self._last: Snapshot | None = None

    def look(self, choose: Callable[[Sequence[RunView]], str | None]) -> Snapshot:
        """A first look before `start`, which publishes it too: all runs, and the curve of one.

        `choose` names that run from those there are, unless one is selected. Long metrics are
        skimmed, not read.
        """
        self._fresh = False
        self._scan(fresh=True)
        if self._selected is None:
            self._selected = choose(self._runs)
        self._choose()
        self._read(0.0)
        self._last = self._snapshot()
        return self._last

    def start(self, publish: Publish) -> None:
        """Start the thread."""
        self._publish = publish
        if self._last is not None:
            publish(self._last)
        self._thread.start()

    def select(self, run_id: str | None) -> None:
        """Follow this run from now on."""
        self._selected = run_id
        self._hurry()

    def follow(self, run_ids: frozenset[str]) -> None:
        """Follow these too, beside the selected one."""
        self._marked = run_ids
        self._hurry()

    def refresh(self) -> None:
        """Read everything again now, and publish even if nothing changed."""
        self._fresh = True
        self._hurry()

    def stop(self) -> None:
        """Stop and wait for the thread."""
        self._stopping = True
        self._hurry()
        if self._thread.is_alive():
            self._thread.join(timeout=_PATIENCE)

    def _hurry(self) -> None:
        self._urgent.set()
        self._wake.set()

    def _run(self) -> None:
        failure = ""
        try:
            while not self._stopping:
                began = time.monotonic()
                try:
                    more = self._turn(began)
                except Exception as error:  # or the screen would freeze and look healthy
                    why = f"{type(error).__name__}: {one_line(error, 200)}"
                    self._problem, more = f"Reading failed, {why}; retrying.", False
                    self._pace.take()
                    if self._problem != failure:
                        failure = self._problem
                        self._publish(
                            dataclasses.replace(self._last or self._empty(), problem=failure)
                        )
                else:
                    failure = ""
                self._pause(began, more)
        finally:
            if self._hints is not None:
                self._hints.stop()
            for follower in self._followers.values():
                follower.close()

    def _turn(self, began: float) -> bool:
        """Look once at everything and publish what is new; whether more is left to read."""
        self._wake.clear()
        self._urgent.clear()
        fresh, self._fresh = self._fresh, False
        changed = fresh
        if fresh or began - self._scanned_at >= min(self._poll, _HINTED_SCANS):
            self._scanned_at = began
            changed |= self._scan(fresh=fresh)
        moved = self._choose()
        grown, more = self._read(READ_TIME if moved else LATER_READ_TIME)
        if self._hints is not None and not more:
            changed |= self._draw_sparklines()
        if began - self._machine_at >= _MACHINE_EVERY:
            self._machine_at = began
            changed |= self._look_at_machine()
            for follower in self._followers.values():
                follower.release()
        if (changed or moved or grown) and not self._stopping:
            self._last = self._snapshot()
            self._publish(self._last)
            self._repeated, self._published_at = False, time.monotonic()
            self._pace.take()
        if not more:
            self._listen(grown)
        return more

    def _listen(self, grown: Iterable[Path]) -> None:
        """Start the hints once everything has been read."""
        if self._hints is None:
            # Loading it takes a while; the first curve must not wait.
            from monitor.data.hints import Hints

            self._hints = (self._make_hints or Hints)(self._runs_dir, self._wake.set)
            self._hints.follow(self._paths())
            self._hints.start()
            self._sparks_due = True
            self._wake.set()  # for what changed before there were hints
        self._hints.rest(grown)

    def _paths(self) -> list[Path]:
        return [self._followers[run_id].run.path for run_id in self._following]

    def _pause(self, began: float, more: bool) -> None:
        """Sleep until there is something to do; only user requests may exceed the rate."""
        if more:
            return
        every, between = self._poll, self._thrift.wait()
        if self._hints is not None and self._hints.busy:
            every = min(max(every, BUSY_MOST), between)
        wait = every - (time.monotonic() - began)
        if self._sparks_due:
            wait = min(wait, _SPARK_REST)
        self._wake.wait(max(0.0, wait))
        self._urgent.wait(self._pace.wait())

    def _look_at_machine(self) -> bool:
        """Whether the figures differ visibly from those shown last."""
        seen = _coarse(self._machine.view())
        changed, self._machine_seen = seen != self._machine_seen, seen
        return changed

    def _scan(self, *, fresh: bool) -> bool:
        try:
            runs, problem = self._scanner.scan(self._wanted(), fresh=fresh), ""
        except OSError as error:
            runs, problem = (), f"{one_line(self._runs_dir)} cannot be read: {error.strerror}"
        if self._elsewhere is not None:
            problem = self._elsewhere.problem or problem
        known = (problem, self._notices(), self._scanner.is_watched())
        changed, only_repeated = differ(runs, self._runs, self._following)
        self._repeated |= only_repeated
        shown = (self._problem, self._notice, self._watched)
        changed = (changed and not only_repeated) or known != shown
        self._runs, (self._problem, self._notice, self._watched) = runs, known
        self._sparks_due = True
        return changed or (self._repeated and time.monotonic() - self._published_at > _REPEATED)

    def _notices(self) -> str:
        """What is worth knowing of the runs, and of the hosts that they are on."""
        return _joined(self._elsewhere, self._scanner.notice)

    def _draw_sparklines(self) -> bool:
        if not self._sparks_due:
            return False
        changed, self._sparks_due = self._scanner.draw_sparklines(_SPARK_TIME)
        if changed:
            self._runs = self._scanner.views
        return changed

    # -- the followed runs -----------------------------------------------------------------

    def _wanted(self) -> tuple[str, ...]:
        """The ids of the runs to follow, the selected one first."""
        selected, marked = self._selected, sorted(self._marked)
        if selected is None and not marked and self._runs:
            selected = self._runs[0].run_id  # which the screen will select, once it sees the runs
        return (*((selected,) if selected else ()), *(m for m in marked if m != selected))

    def _choose(self) -> bool:
        """Open the wanted followers and drop others; True if the selection changed."""
        wanted = self._wanted()
        missing = {run_id for run_id in wanted if run_id not in self._followers}
        for view in self._runs if missing else ():
            if view.run_id in missing:
                self._followers[view.run_id] = follower_of(view)
        found = tuple(run_id for run_id in wanted if run_id in self._followers)
        for run_id in reversed(found):
            self._followers.move_to_end(run_id)
        self._forget(set(found))
        main = wanted[0] if wanted else None
        moved = (self._selected, main, found) != (*self._shown, self._following)
        self._shown, self._following = (self._selected, main), found
        if self._elsewhere is not None:
            self._elsewhere.look_at(*found)
        if self._hints is not None:
            self._hints.follow(self._paths())
        return moved

    def _forget(self, wanted: set[str]) -> None:
        """Stay within the memory limit: drop the least recently selected runs."""
        left = [run_id for run_id in self._followers if run_id not in wanted]
        total = sum(follower.nbytes for follower in self._followers.values())
        while left and (len(left) > KEPT_FOLLOWERS or total > self._memory):
            follower = self._followers.pop(left.pop(0))
            follower.close()
            total -= follower.nbytes

    def _read(self, seconds: float) -> tuple[list[Path], bool]:
        """Read on in the followed runs in turn; (paths that changed, whether more is left)."""
        turn = [self._followers[run_id] for run_id in self._following]
        wanted = self._wanted()
        grown: dict[Path, None] = {}
        for follower in turn:  # at least a first part of each
            if follower.poll_metrics() | follower.poll_rest():
                grown[follower.run.path] = None
        self._share_memory(turn)
        deadline = time.monotonic() + seconds
        reading = [follower for follower in turn if follower.more]
        # A newly opened run is shown before the long read begins.
        while reading and seconds and not self._stopping:
            if any(not follower.seen for follower in reading):
                break
            for follower in reading:
                if follower.poll_metrics():
                    grown[follower.run.path] = None
                if time.monotonic() >= deadline or self._wanted() != wanted:
                    return list(grown), any(follower.more for follower in turn)
            reading = [follower for follower in reading if follower.more]
        return list(grown), any(follower.more for follower in turn)

    def _share_memory(self, turn: Iterable[RunFollower]) -> None:
        """Read exactly as many runs as fit into memory, the selected one in any case."""
        free = self._memory
        for number, follower in enumerate(turn):
            needed = follower.expected_nbytes
            follower.exact = number == 0 or needed <= free
            free -= needed if follower.exact else 0

    def _empty(self) -> Snapshot:
        shown = self._elsewhere.shown if self._elsewhere else one_line(self._runs_dir)
        return Snapshot(shown, self._clock())

    def _snapshot(self) -> Snapshot:
        details = {run_id: self._followers[run_id].detail() for run_id in self._following}
        return dataclasses.replace(
            self._empty(),
            runs=newest_of(self._runs, details),
            detail=details.get(self._shown[1] or ""),
            details=details,
            machine=self._machine.view(),
            problem=self._problem,
            notice=self._notice,
            watched=self._watched,
        )


def _coarse(view: MachineView) -> object:
    """The figures at display resolution: 5 % of the processor, 64 MiB of memory."""
    host = view.host_use
    return (
        view.host,
        view.unknown,
        None if host.cpu is None else round(20 * host.cpu),
        (host.ram_used or 0) >> 26,
        (view.disk.free or 0) >> 26,
        tuple(
            (g.index, g.use, (g.memory_used or 0) >> 26, g.temperature, round(g.power or 0.0))
            for g in view.gpus
        ),
    )


def _joined(elsewhere: RemoteRuns | None, notice: str) -> str:
    return " ".join(filter(None, (elsewhere.notice if elsewhere else "", notice)))


def _machine(runs_dir: Path, elsewhere: RemoteRuns | None) -> Machine | RemoteMachine:
    """What knows the figures of the machine that the runs are on."""
    if elsewhere is None:
        return Machine(runs_dir)
    from monitor.data.remote_machine import RemoteMachine

    return RemoteMachine(elsewhere)


def _scanner(
    runs_dir: Path,
    clock: Callable[[], float],
    only: Sequence[Found] | None,
    elsewhere: RemoteRuns | None,
) -> RunScanner:
    judge = observe if elsewhere is None else elsewhere.health
    return RunScanner(runs_dir, clock, only=only, judge=judge)


def read_once(
    runs_dir: Path,
    run: RunDirectory | None = None,
    machine: Machine | RemoteMachine | None = None,
    *,
    foreign: str | None = None,
    only: Sequence[Found] | None = None,
    elsewhere: RemoteRuns | None = None,
) -> Snapshot:
    """One complete look: every run, the machine, and everything of `run` if given.

    `foreign` is the id of another tool's run, in its place; `only` as for `Poller`. Raises OSError
    when the folder cannot be read.
    """
    machine = machine or _machine(runs_dir, elsewhere)
    machine.view()  # it works in its own threads while the runs are read
    scanner = _scanner(runs_dir, time.time, only, elsewhere)
    scanner.scan()
    detail = None
    view = next((v for v in scanner.views if v.foreign and v.run_id == foreign), None)
    follower = follower_of(view) if view else RunFollower(run) if run else None
    if follower is not None:
        while True:
            follower.poll()
            if not follower.more:
                break
        follower.poll()  # nothing comes any more: a last line without a newline counts
        detail = follower.detail()
    scanner.draw_sparklines(math.inf, None if run is None else {run.run_id})
    scanner.read_foreign()
    details = {detail.run_id: detail} if detail else {}
    return Snapshot(
        elsewhere.shown if elsewhere else one_line(runs_dir),
        time.time(),
        newest_of(scanner.views, details),
        detail,
        details=details,
        machine=machine.wait(_MACHINE_WAIT),
        notice=_joined(elsewhere, scanner.notice),
        watched=scanner.is_watched(),
    )
