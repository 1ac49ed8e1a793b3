"""What ranks know of each other: a sign of life every second, and the last words of one that fails.

All of it goes through the store, in a thread with a connection of its own. So it works while the
main thread waits for the others, and when one of them will never come.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shared.ownership.process import host_name
from shared.text import format_duration, one_line, plural
from trainer.distributed.world import World

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

PERIOD = 1.0  # seconds between signs of life
SILENT = 5.0  # seconds without one after which a rank counts as gone
LONG_SILENT = 60.0  # seconds: where nothing else says that it is gone
LAST_WORDS = 10  # lines of a rank that failed
_FAILED = "failed"


@dataclass(frozen=True)
class Failure:
    """A rank that has failed, and its last lines. `micro_batch` is to be used from now on."""

    rank: int
    host: str
    pid: int
    reason: str
    lines: tuple[str, ...] = ()
    micro_batch: int | None = None

    def __str__(self) -> str:
        return f"Rank {self.rank} ({self.host}, process {self.pid}) {self.reason}"


@dataclass
class Position:
    """Where this rank is: the exchanges it has entered, the step, its last lines."""

    exchanges: int = 0
    step: int = 0
    lines: Sequence[str] = ()


class Watch:
    """The thread of one rank. `position` is kept up to date by the main thread."""

    def __init__(self, world: World, store: Store, lost: Callable[[], bool]) -> None:
        """`store` is a connection of this thread's own. `lost` says whether what started the ranks
        is gone; then this process is told to end, as by SIGTERM.
        """
        self.position = Position()
        self._world = world
        self._store = store
        self._lost = lost
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._count = 0
        self._leave: Callable[[Failure], None] | None = None
        self._heard: dict[int, tuple[int, float]] = {}
        self._say_alive()  # a rank may die within a second
        self._thread = threading.Thread(target=self._work, name="ranks", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=2 * PERIOD)

    def leave_by(self, leave: Callable[[Failure], None]) -> None:
        """What ends this process if another rank has failed and the main thread cannot know it."""
        self._leave = leave

    def tell(self, reason: str, micro_batch: int | None = None) -> None:
        """Leave last words for the others. The first ones stand."""
        self.announce(
            Failure(
                self._world.rank,
                host_name(),
                os.getpid(),
                one_line(reason, 500),
                tuple(one_line(line, 300) for line in self.position.lines),
                micro_batch,
            )
        )

    def announce(self, failure: Failure) -> None:
        """Tell all ranks of a failure that this one has found, the one that failed included."""
        with self._lock, contextlib.suppress(RuntimeError):
            self._store.compare_set(_FAILED, "", json.dumps(asdict(failure)))

    def told(self) -> Failure | None:
        """The last words of the first rank that failed."""
        with self._lock:
            if not self._store.check([_FAILED]):
                return None
            found = json.loads(self._store.get(_FAILED).decode())
        return Failure(**{**found, "lines": tuple(found["lines"])})

    def silent(self, rank: int) -> Failure | None:
        """That a rank has given no sign of life for long. To be called regularly."""
        beat = self._beats([rank]).get(rank)
        count = beat["count"] if beat else 0
        before, since = self._heard.get(rank, (-1, 0.0))
        now = time.monotonic()
        if count != before:
            self._heard[rank] = count, now
        elif beat is not None and now - since > LONG_SILENT:
            return _failure(rank, beat, f"has given no sign of life for {LONG_SILENT:.0f} s")
        return None

    def find_failed(self, waited: float) -> Failure | None:
        """Which rank failed, where an exchange did: it says so, is gone, or stays behind.

        `waited` is how long the exchange took. Takes a few seconds. None if all are there.
        """
        try:
            return self._compare(waited)
        except RuntimeError:  # of the store
            reason = "lost torchrun, through which the ranks find each other"
            return Failure(self._world.rank, host_name(), os.getpid(), reason)

    def _compare(self, waited: float) -> Failure | None:
        before = self._beats()
        deadline = time.monotonic() + SILENT
        while time.monotonic() < deadline:
            if failure := self.told():
                return failure
            time.sleep(PERIOD / 4)
        now = self._beats()
        others = [rank for rank in range(self._world.size) if rank != self._world.rank]
        for rank in others:
            beat = now.get(rank)
            if beat is None:
                return Failure(rank, "unknown host", 0, "has never been heard of")
            if beat["count"] == before.get(rank, {}).get("count"):
                reason = f"died or froze without a word, after step {beat['step']} or later"
                return _failure(rank, beat, reason)
        behind = min(others, key=lambda rank: now[rank]["exchanges"])
        if now[behind]["exchanges"] < self.position.exchanges:
            reason = (
                f"hangs at step {now[behind]['step']}: the others have waited for it for "
                f"{format_duration(waited)}"
            )
            return _failure(behind, now[behind], reason)
        return None

    def _beats(self, ranks: Sequence[int] | None = None) -> Mapping[int, dict[str, Any]]:
        """The newest sign of life of each rank, or of these."""
        with self._lock:
            asked = range(self._world.size) if ranks is None else ranks
            there = [rank for rank in asked if self._store.check([_beat(rank)])]
            found = self._store.multi_get([_beat(rank) for rank in there]) if there else []
        return {rank: json.loads(data.decode()) for rank, data in zip(there, found, strict=True)}

    def _work(self) -> None:
        ending, asked = None, False
        while not self._stop.wait(PERIOD):
            if not asked and self._lost():
                asked = True
                os.kill(os.getpid(), signal.SIGTERM)  # as if it had passed on a signal at its end
            try:
                self._say_alive()
                failure = self.told()
            except RuntimeError:  # the store is gone, and with it the one that holds it
                failure = Failure(0, "unknown host", 0, "and the store of all ranks are gone")
            if failure is None:
                continue
            ending = ending or time.monotonic() + 3 * SILENT
            # The main thread usually learns it in its next exchange.
            if time.monotonic() > ending and self._leave is not None:
                self._leave(failure)
                return

    def _say_alive(self) -> None:
        self._count += 1
        beat = {
            "count": self._count,
            "exchanges": self.position.exchanges,
            "step": self.position.step,
            "host": host_name(),
            "pid": os.getpid(),
            "lines": [one_line(line, 300) for line in list(self.position.lines)[-5:]],
        }
        with self._lock:
            self._store.set(_beat(self._world.rank), json.dumps(beat))


def _beat(rank: int) -> str:
    return f"alive/{rank}"


def _failure(rank: int, beat: Mapping[str, Any], reason: str) -> Failure:
    lines = tuple(str(line) for line in beat["lines"])
    return Failure(rank, str(beat["host"]), int(beat["pid"]), reason, lines)


def last_words(failure: Failure) -> list[str]:
    """A failure as lines of a log: the rank's own last ones, then who failed and how."""
    lines = failure.lines[-LAST_WORDS:]
    told = [f"[ERROR] the last {plural(len(lines), 'line')} of rank {failure.rank}:"]
    told += [f"[ERROR]   {line}" for line in lines]
    return [*(told if lines else ()), f"[ERROR] {failure}"]
