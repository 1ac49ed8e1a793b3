"""A private copy of a host's runs folder, kept in step: what grows is fetched by ranges, small
files whole, and of all others there is a file of the same size without content."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared.ownership.health import Health, observe
from shared.ownership.heartbeat import BeatWatch
from shared.remote.agent import MAX_ENTRIES
from shared.remote.client import Link, LinkError
from shared.remote.copies import Copies, Space
from shared.remote.fetching import Fetching, Sizes
from shared.remote.listing import Remote, below, entry_of, health_of, how
from shared.run.directory import RunDirectory
from shared.run.records import ACTIVE_STATUSES, RunState
from shared.text import one_line

_MAX_TIME = 1e11  # Unix seconds
_MOST_PARTS = 1_000  # of one listing


class Mirror:
    """The copy below `root`. Of each path, the file here is never ahead of the host's."""

    def __init__(
        self,
        root: Path,
        prefix: str = "",
        *,
        space: Space = Space(),  # noqa: B008  frozen
        sizes: Sizes = Sizes(),  # noqa: B008
    ) -> None:
        """`prefix` is put before the name of everything at the top, where hosts share a root."""
        self._root = root
        self._prefix = prefix
        self._remote: dict[str, Remote] = {}
        self._seen: set[str] | None = None
        self._copies = Copies(root, self._here, space)
        self._fetching = Fetching(self._remote, self._copies, sizes)
        self._health: dict[str, tuple[str, bool, str, str]] = {}
        self._cut = self._dropped = False
        self._looking = 0  # parts of a listing that came, while one is on its way

    @property
    def behind(self) -> bool:
        """Whether there is something left to fetch."""
        return self._fetching.behind

    @property
    def settled(self) -> bool:
        """Whether what a first screen shows is here."""
        return self._fetching.settled

    @property
    def incomplete(self) -> str:
        """What is not copied, in a sentence; empty if everything is."""
        if self._cut or self._dropped:
            return f"Only {MAX_ENTRIES:,} files of the folder are listed; watch a folder inside it."
        return self._copies.problem

    def reconnected(self) -> None:
        """A new link: its first look tells everything again, and nothing is taken on trust."""
        self._seen, self._looking = set(), 0
        self._fetching.reconnected()

    def step(
        self,
        link: Link,
        wait: float,
        wanted: Callable[[], Sequence[str]] = tuple,
        budget: float = 0.5,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Look for changes, waiting for some if there is nothing to fetch, and fetch meanwhile, for
        about `budget` seconds or until there is `enough`.

        `wanted` are the runs whose files come first; when they change, a nudge of the link tells.
        Raises LinkError.
        """
        fetching = self._fetching
        fetching.want(self._names(wanted()))
        self._look(link, 0.0 if self.behind else min(wait, fetching.next_in))
        deadline = time.monotonic() + budget
        while self._looking or (fetching.behind and time.monotonic() < deadline):
            fetching.ask(link)
            if not fetching.is_waiting:
                break
            fetching.take(link, lambda: self._names(wanted()) != fetching.wanted)
            fetching.want(self._names(wanted()))
            if not self._looking and enough():
                break

    def _names(self, run_ids: Sequence[str]) -> tuple[str, ...]:
        """Those runs that are of this host, by their names there."""
        mine = (run_id for run_id in run_ids if run_id.startswith(self._prefix))
        return tuple(self.remote_name(run_id) for run_id in mine)

    def health(self, run: RunDirectory, state: RunState, now: float, watch: BeatWatch) -> Health:
        """The real status, as judged on the host; as last seen while there is no link."""
        told = self._health.get(self.remote_name(run.run_id))
        if told is None:
            return observe(run, state, now, watch)
        status, alive, reason, alarm = told
        if status:
            return Health(status, alive, reason, alarm)
        if alive:
            return Health(state.status, alive=True, alarm=one_line(state.alarm, 500))
        if state.status in ACTIVE_STATUSES:
            host = one_line(state.host, 80)
            gone = f"process {state.pid} on {host} is gone without an exit record"
            return Health("crashed", alive=False, reason=gone)
        return Health(state.status, alive=False, reason=state.exit.reason if state.exit else "")

    def has(self, run_id: str) -> bool:
        """Whether a run of that id is of this host."""
        name = self.remote_name(run_id)
        return run_id.startswith(self._prefix) and name in self._remote

    def remote_name(self, run_id: str) -> str:
        """What the run is called on its host."""
        return run_id[len(self._prefix) :] if run_id.startswith(self._prefix) else run_id

    # -- what there is -----------------------------------------------------------------------

    def _look(self, link: Link, wait: float) -> None:
        """Ask what has changed; the answer is taken in its turn."""
        everything = self._seen is not None and not self._looking
        self._looking += 1
        if self._looking > _MOST_PARTS:
            raise LinkError("The host lists files without end.")
        head = {"op": "look", "wait": wait, "all": everything, "packed": True}

        def take(answer: dict[str, Any], body: bytes) -> None:
            self._take(answer, body)
            if answer.get("more") is True:
                self._look(link, 0.0)
                return
            self._looking = 0
            if self._seen is not None:
                self._forget(frozenset(path for path in self._remote if path not in self._seen))
                self._seen = None

        def refused() -> None:
            raise LinkError("The host does not list its files.")

        self._fetching.expect(link.ask(head), take, refused)

    def _take(self, answer: dict[str, Any], body: bytes) -> None:
        now = answer.get("now")
        if isinstance(now, (int, float)) and 0 < now < _MAX_TIME:
            skew = float(now) - time.time()
            # By our clock where the two differ visibly.
            self._fetching.ahead = int(skew * 1e9) if abs(skew) > 2.0 else 0
        if "truncated" in answer:
            self._cut, self._dropped = answer["truncated"] is True, False
        gone = answer.get("gone")
        gone = [path for path in gone if isinstance(path, str)] if isinstance(gone, list) else []
        if gone:
            self._forget(frozenset(gone))
        entries = _unpacked(body) if body else answer.get("entries")
        entries = entries if isinstance(entries, list) else []
        for value in sorted((e for e in entries if isinstance(e, list)), key=lambda e: str(e[:1])):
            entry = entry_of(value)
            if entry is not None:
                self._take_entry(str(value[0]), entry)
        health = answer.get("health")
        for run, told in (health if isinstance(health, dict) else {}).items():
            judged = health_of(told)
            if judged is not None and (run in self._health or len(self._health) < MAX_ENTRIES):
                self._health[run] = judged

    def _take_entry(self, path: str, entry: Remote) -> None:
        if self._seen is not None:
            self._seen.add(path)
        before = self._remote.get(path)
        if before is None and len(self._remote) >= 2 * MAX_ENTRIES:
            self._dropped = True
            return
        if before is not None and _kind(path, before) != _kind(path, entry):
            self._forget(frozenset((path,)))
            before = None
        self._remote[path] = entry
        if before == entry and not self._fetching.is_unchecked(path):
            return
        here = self._here(path)
        with contextlib.suppress(OSError):
            if entry.kind == "d":
                here.mkdir(exist_ok=True)
            elif entry.kind == "l":
                if os.path.lexists(here):
                    here.unlink()
                here.symlink_to(self._prefix + entry.target if "/" not in path else entry.target)
            elif how(path, entry.size) == "hole":
                self._copies.make_hole(path, entry)
                self._copies.set_time(path, entry.mtime - self._fetching.ahead)
            else:
                self._fetching.changed(path)

    def _forget(self, gone: frozenset[str]) -> None:
        """Remove what is gone on the host, and what was in it."""
        for path in below(list(self._remote), gone):
            here = self._here(path)
            self._fetching.forget(path)
            del self._remote[path]
            self._health.pop(path, None)
            if os.path.isdir(here) and not os.path.islink(here):  # noqa: PTH112, PTH114  never raise
                shutil.rmtree(here, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    here.unlink()

    def _here(self, path: str) -> Path:
        return self._root / (self._prefix + path)


def _kind(path: str, entry: Remote) -> tuple[str, str]:
    return entry.kind, how(path, entry.size) if entry.kind == "f" else ""


def _unpacked(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
