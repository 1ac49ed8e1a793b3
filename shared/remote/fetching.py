"""What is asked of a host, and in which order: what is looked at before what is only kept in step.

States come first, then sketches of long metrics, which give a first curve of all of them, then what
is small. All of a long log is fetched for runs that are looked at, in pieces, of which only as many
are on their way as keep the link busy.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.remote.client import Link, RefusedError
from shared.remote.copies import OVERLAP, Copies, Copy, FullError, Parts
from shared.remote.exchange import Pending
from shared.remote.listing import MOST, Remote, how, is_metrics
from shared.remote.protocol import Head
from shared.remote.ranking import FIRST_SCREEN, Ranking
from shared.remote.window import CHUNK, Window

_AGAIN, _AGAIN_LATER = (
    2.0,
    15.0,
)  # seconds between two sketches of a growing file, in the same order
_RETRY = 10.0  # seconds after which what could not be written is tried again
_REQUEST = 150  # bytes that a request costs beside what it asks for
_MOST_TRIES = 3  # of a file that changes while it is fetched whole
_REFILL = 0.75  # of the window, below which more is asked for


@dataclass(frozen=True)
class Sizes:
    """Bytes of a file in one answer, and of those that are not here from which a sketch of a log
    stands for them.
    """

    chunk: int = CHUNK
    sketched: int = 1 << 20


@dataclass(eq=False)
class _Job:
    """A request that is on its way, and what is done with its answer."""

    path: str
    rank: int
    pending: Pending
    expected: int  # bytes of a file
    cost: int  # bytes on the link
    take: Callable[[dict[str, Any], bytes], None]
    refused: Callable[[], None]


class Fetching:
    """Brings `copies` in step with `remote`, what the host has by path."""

    def __init__(self, remote: Mapping[str, Remote], copies: Copies, sizes: Sizes) -> None:
        self._remote, self._copies = remote, copies
        self._chunk, self._sketched = sizes.chunk, sizes.sketched
        self._due: dict[str, None] = {}
        self._order: list[str] | None = None  # what is due, if it was put in order
        self._under_way: set[str] = set()  # those of which all has been asked for
        self._later: dict[str, float] = {}  # when paths are due again (monotonic)
        self._full: set[str] = set()  # those for which there was no room
        self._jobs: deque[_Job] = deque()
        self._on_the_way = 0
        self._window = Window(sizes.chunk)
        self._ranking = Ranking(remote, copies.growing, sizes.sketched)
        #: How far the host's clock is ahead of ours, in ns.
        self.ahead = 0

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of the runs that are looked at."""
        return self._ranking.wanted

    @property
    def behind(self) -> bool:
        """Whether there is something left to fetch."""
        return bool(self._due or self._jobs)

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self._jobs)

    @property
    def next_in(self) -> float:
        """Seconds until something is due again."""
        return max(0.0, min(self._later.values(), default=math.inf) - time.monotonic())

    @property
    def settled(self) -> bool:
        """Whether what a first screen shows is here: states, and the curve that is looked at."""
        if any(job.rank <= FIRST_SCREEN for job in self._jobs):
            return False
        return all(self._ranking.rank(path)[0] > FIRST_SCREEN for path in self._due)

    def reconnected(self) -> None:
        """Nothing that was asked for will come."""
        self._jobs.clear()
        self._under_way.clear()
        self._on_the_way = 0
        self._copies.reconnected()

    def want(self, names: Sequence[str]) -> None:
        """These runs are looked at, the first one most."""
        if self.wanted != tuple(names):
            self._ranking.wanted = tuple(names)
            for path, copy in self._copies.growing.items():
                if not copy.whole and path not in self._full:
                    self._due[path] = None
                    self._under_way.discard(path)
            self._order = None

    def changed(self, path: str) -> None:
        """The host's file is another one than was fetched, or longer."""
        copy, entry = self._copies.growing.get(path), self._remote[path]
        if copy is not None:
            copy.end, copy.checked = max(entry.size, copy.size), False
        self._copies.parts.pop(path, None)
        self._add(path)

    def forget(self, path: str) -> None:
        """It is gone."""
        self._due.pop(path, None)
        self._later.pop(path, None)
        self._full.discard(path)
        self._under_way.discard(path)
        self._copies.forget(path)

    def expect(
        self,
        pending: Pending,
        take: Callable[[dict[str, Any], bytes], None],
        refused: Callable[[], None],
    ) -> None:
        """The answer to another request comes in its turn."""
        self._jobs.append(_Job("", 0, pending, 0, 0, take, refused))

    def is_unchecked(self, path: str) -> bool:
        """Whether it must be compared with the host's file, since the link was made anew."""
        copy = self._copies.growing.get(path)
        return copy is not None and not copy.checked

    # -- asking ------------------------------------------------------------------------------

    def ask(self, link: Link) -> None:
        """Ask for as much as may be on its way, the most important first."""
        now = time.monotonic()
        for path in [path for path, at in self._later.items() if at <= now]:
            del self._later[path]
            self._full.discard(path)
            if path in self._remote:
                self._add(path)
        if self._on_the_way > _REFILL * self._window.size:
            return
        if self._order is None:
            self._ranking.look_around()
            self._order = sorted(self._due, key=self._ranking.rank)
        elif len(self._order) > 2 * len(self._due):
            self._order = [path for path in self._order if path in self._due]
        for path in self._order:
            if path in self._under_way or path not in self._due:
                continue
            for job in self._asked(link, path):
                self._jobs.append(job)
                self._on_the_way += job.cost
                if self._on_the_way >= self._window.size:
                    return
            if path in self._due:
                self._under_way.add(path)
        if not self._jobs:  # nothing can be asked for what is left: look at it again later
            self._later |= dict.fromkeys(self._due, now + _RETRY)
            self._due.clear()

    def _add(self, path: str) -> None:
        self._under_way.discard(path)
        if path not in self._due:
            self._due[path] = None
            self._order = None

    def take(self, link: Link, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the next answer and take it; False if none is due, or `until` held before.

        Raises LinkError.
        """
        if not self._jobs:
            return False
        job = self._jobs[0]
        self._under_way.discard(job.path)
        try:
            answered = link.answer_to(job.pending, until)
            if answered is None:
                return False
            job.take(*answered)
        except FullError:
            self._set_aside(job.path)
        except RefusedError:
            job.refused()
        except OSError:
            self._drop(job.path)  # it may be gone or closed to us; a change of it is told again
        full = self._on_the_way >= _REFILL * self._window.size
        self._jobs.popleft()
        self._on_the_way -= job.cost
        if job.cost:
            self._window.came(job.expected, job.pending.size)
            self._window.answered(job.pending.latency, full=full)
        return True

    def _set_aside(self, path: str) -> None:
        """There is no room for it: try again when others made some."""
        self._drop(path)
        if self._ranking.is_wanted(path) and self._make_room():
            self._add(path)
            return
        self._full.add(path)
        self._later[path] = time.monotonic() + _RETRY

    def _drop(self, path: str) -> None:
        """Leave it as it is, until it changes."""
        copy = self._copies.growing.get(path)
        if copy is not None:
            copy.asked, copy.sketching = copy.size, False
        self._copies.parts.pop(path, None)
        self._due.pop(path, None)

    def _make_room(self) -> bool:
        """Give up the longest copy that nobody looks at; of its file there will be a sketch."""
        held = {
            other: copy.size
            for other, copy in self._copies.growing.items()
            if copy.size > self._sketched
            and is_metrics(other)
            and not self._ranking.is_wanted(other)
        }
        longest = max(held, key=lambda other: held[other], default=None)
        if longest is None:
            return False
        try:
            self._copies.begin(longest, self._remote[longest].inode).end = held[longest]
        except (OSError, FullError):
            return False
        self._add(longest)
        return True

    def _set_time(self, path: str) -> None:
        entry = self._remote.get(path)
        if entry is not None:
            self._copies.set_time(path, entry.mtime - self.ahead)

    def _asked(self, link: Link, path: str) -> Iterator[_Job]:
        """The requests for a path that can be made now. Without any, it is not due any more."""
        entry = self._remote[path]
        if how(path, entry.size) == "whole":
            yield from self._ask_parts(link, path, entry)
            return
        copy = self._copies.growing.get(path)
        if copy is None or copy.inode != entry.inode or entry.size < copy.size:
            try:
                copy = self._copies.begin(path, entry.inode)
            except FullError:
                self._set_aside(path)
                return
            except OSError:
                self._drop(path)
                return
            copy.end = entry.size
        if copy.sketching:
            return
        if is_metrics(path) and self._ranking.needs_sketch(path, copy, entry):
            due_at = copy.sketched_at + (
                _AGAIN if self._ranking.is_in_front(path) else _AGAIN_LATER
            )
            newer = copy.sketch_checked and copy.samples >= self._ranking.samples(path)
            if newer and time.monotonic() < due_at:
                self._later[path] = due_at
            else:
                yield self._ask_sketch(link, path, copy)
                return
        if not self._ranking.is_fetched(path, copy) or copy.whole:
            del self._due[path]
            return
        while copy.asked < copy.end or not (copy.checked or copy.asked > copy.size):
            yield self._ask_piece(link, path, copy)

    def _ask_sketch(self, link: Link, path: str, copy: Copy) -> _Job:
        samples = wanted = self._ranking.samples(path)
        start = 0
        if copy.samples >= samples:  # only what came since
            start, samples = self._copies.last_sketched(path), copy.samples
            wanted = max(4, math.ceil(samples * (copy.end - start) / max(1, copy.end)))
        copy.sketching = True

        def take(told: dict[str, Any], data: bytes) -> None:
            self._copies.take_sketch(copy, samples, start, told, data)
            if path in self._due:
                self._order = None  # it has another place now

        def refused() -> None:
            copy.sketching, copy.unsketched = False, True
            self._order = None

        head = {"op": "sketch", "path": path, "start": start, "end": 1 << 62, "samples": wanted}
        return self._job(link, path, head, 300 * wanted, take, refused=refused)

    def _ask_piece(self, link: Link, path: str, copy: Copy) -> _Job:
        start, first = copy.asked, copy.first
        overlap = min(start, OVERLAP)
        copy.asked = start + self._chunk
        head = {"op": "read", "path": path, "start": start - overlap, "size": overlap + self._chunk}

        def take(told: dict[str, Any], data: bytes) -> None:
            self._copies.take_piece(copy, start, first, told, data)
            now = self._copies.growing.get(path)
            if start + self._chunk >= copy.asked:
                copy.asked = copy.size  # the last one on its way: whatever lacks is asked again
            if now is None:
                return
            if now.whole:
                self._due.pop(path, None)
            elif path not in self._full and path in self._remote:
                self._add(path)
            self._set_time(path)

        if first:
            head["first"] = len(first)
        return self._job(link, path, head, min(self._chunk, max(0, copy.end - start)), take)

    def _ask_parts(self, link: Link, path: str, entry: Remote) -> Iterator[_Job]:
        parts = self._copies.parts.get(path)
        if parts is None:
            parts = self._copies.parts[path] = Parts(entry.size)
        while parts.asked == 0 or parts.asked < parts.size:
            yield self._ask_part(link, path, parts)

    def _ask_part(self, link: Link, path: str, parts: Parts) -> _Job:
        start = parts.asked
        parts.asked = start + self._chunk

        def take(told: dict[str, Any], data: bytes) -> None:
            if self._copies.parts.get(path) is not parts:
                return
            identity = tuple(told.get(key) for key in ("size", "mtime", "inode"))
            parts.identity = parts.identity or identity
            parts.came.append(data)
            if start + self._chunk < parts.size and identity == parts.identity:
                return
            del self._copies.parts[path]
            found = b"".join(parts.came)
            if identity == parts.identity and len(found) == told.get("size"):
                self._due.pop(path, None)
                self._copies.put_whole(path, found)
                self._set_time(path)
            elif parts.tries < _MOST_TRIES and isinstance(size := told.get("size"), int):
                self._copies.parts[path] = Parts(min(size, MOST), tries=parts.tries + 1)
            else:  # it changes all the time
                self._due.pop(path, None)
                self._later[path] = time.monotonic() + _AGAIN

        head = {"op": "read", "path": path, "start": start, "size": self._chunk}
        return self._job(link, path, head, min(self._chunk, max(0, parts.size - start)), take)

    def _job(
        self,
        link: Link,
        path: str,
        head: Head,
        expected: int,
        take: Callable[[dict[str, Any], bytes], None],
        *,
        refused: Callable[[], None] | None = None,
    ) -> _Job:
        rank = self._ranking.rank(path)[0]
        pending = link.ask({**head, "level": self._window.level})
        given_up = refused or (lambda: self._drop(path))
        cost = self._window.cost(expected) + _REQUEST
        return _Job(path, rank, pending, expected, cost, take, given_up)
