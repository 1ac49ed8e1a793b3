"""Hints that files changed. They are optional: network filesystems give none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
)
from watchdog.observers import Observer

#: Files whose changes wake the poller; the heartbeat does not.
_INTERESTING = (
    "metrics.jsonl", "metrics.jsonl.sketch", "events.jsonl", "run_state.json", "labels.json",
)  # fmt: skip
#: Hints per second above which polling is cheaper, and its delay cannot be seen: for every hint the
#: kernel wakes this process, in the time of the trainer that writes.
_BUSY = 6
_COUNTED = 2.0  # seconds over which they are counted
_SOON = 0.5  # seconds after which a flood of them is enough
_KINDS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]


class _Watched:
    """A watched run, unless it is too busy."""

    def __init__(self, path: Path, wake: Callable[[], None]) -> None:
        self.path = path
        self.busy = False
        self.watch: Any = None
        self._wake = wake
        self._count = 0
        self._counted_at = time.monotonic()

    def dispatch(self, event: Any) -> None:
        """Called by watchdog, in its thread."""
        path = str(event.dest_path or event.src_path)
        if event.is_directory or path.endswith(_INTERESTING):
            self._count += 1
            self._wake()

    def is_too_loud(self) -> bool:
        """Whether it gives too many hints to be worth it."""
        now = time.monotonic()
        elapsed = now - self._counted_at
        if elapsed < _SOON:
            return False
        loud = self._count > _BUSY * max(elapsed, _COUNTED)
        if loud or elapsed >= _COUNTED:
            self._count, self._counted_at = 0, now
        return loud


class Hints:
    """Calls `wake` when something changes in `runs_dir` itself or in the followed runs.

    A run that writes a thousand lines per second would cost more in hints than in reading. So a
    busy run is no longer listened to, until `rest` finds that it has become quiet.
    """

    def __init__(
        self,
        runs_dir: Path,
        wake: Callable[[], None],
        make_observer: Callable[[], Any] = Observer,
    ) -> None:
        self._wake = wake
        self._make_observer = make_observer
        self._folder = _Watched(runs_dir, wake)
        self._runs: dict[Path, _Watched] = {}
        self._observer: Any = None

    @property
    def busy(self) -> bool:
        """Whether a run is too busy for hints and must be polled."""
        return any(run.busy for run in self._runs.values())

    def start(self) -> None:
        """Start watching; without inotify there are no hints."""
        observer = self._make_observer()
        observer.daemon = True
        with contextlib.suppress(OSError, RuntimeError):
            observer.start()
            self._observer = observer
        for watched in (self._folder, *self._runs.values()):
            self._listen(watched)

    def follow(self, runs: Iterable[Path]) -> None:
        """Watch exactly these runs."""
        wanted = set(runs)
        for path in [path for path in self._runs if path not in wanted]:
            self._ignore(self._runs.pop(path))
        for path in wanted - self._runs.keys():
            self._runs[path] = _Watched(path, self._wake)
            self._listen(self._runs[path])

    def rest(self, growing: Iterable[Path]) -> None:
        """Called after every read: stop watching busy runs, watch quiet ones again."""
        grown = set(growing)
        for path, run in self._runs.items():
            if run.busy:
                if path not in grown:
                    run.busy = False
                    run.is_too_loud()  # begins to count again
                    self._listen(run)
            elif run.is_too_loud():
                run.busy = True
                self._ignore(run)

    def stop(self) -> None:
        """Stop watching."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()

    def _listen(self, watched: _Watched) -> None:
        if self._observer is not None and watched.watch is None:
            with contextlib.suppress(OSError, RuntimeError, KeyError):
                watched.watch = self._observer.schedule(
                    watched, str(watched.path), event_filter=_KINDS
                )

    def _ignore(self, watched: _Watched) -> None:
        watch, watched.watch = watched.watch, None
        if watch is not None and self._observer is not None:
            with contextlib.suppress(OSError, RuntimeError, KeyError):
                self._observer.unschedule(watch)
