"""Hints that files changed. Nothing depends on them: network filesystems give none."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

#: Files whose changes are worth waking for; the heartbeat is not.
_INTERESTING = ("metrics.jsonl", "events.jsonl", "run_state.json")
_BUSY = 40  # hints per second above which looking at fixed times is cheaper than listening
_KINDS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]


class _Handler(FileSystemEventHandler):
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self.count = 0

    def on_any_event(self, event: FileSystemEvent) -> None:
        path = str(event.dest_path or event.src_path)
        if event.is_directory or path.endswith(_INTERESTING):
            self.count += 1
            self._wake()


class Hints:
    """Calls `wake` when something changes in `runs_dir` itself or in the followed run.

    A run that writes a thousand lines per second would cost more in hints than in reading. So a
    busy run is no longer listened to, until `rest` finds that it has become quiet.
    """

    def __init__(self, runs_dir: Path, wake: Callable[[], None]) -> None:
        self._runs_dir = runs_dir
        self._handler = _Handler(wake)
        self._observer: object | None = None
        self._watch: ObservedWatch | None = None
        self._followed: Path | None = None
        self._counted_at = 0.0
        self.busy = False

    def start(self) -> None:
        """Begin to listen; without inotify there are simply no hints."""
        observer = Observer()
        observer.daemon = True
        with contextlib.suppress(OSError, RuntimeError):
            observer.schedule(self._handler, str(self._runs_dir), event_filter=_KINDS)
            observer.start()
            self._observer = observer

    def follow(self, run: Path | None) -> None:
        """Listen to this run and to no other."""
        self._unwatch()
        self._followed = run
        self.busy = False
        self._handler.count = 0
        self._counted_at = time.monotonic()
        self._rewatch()

    def rest(self, *, growing: bool) -> None:
        """Called after every look: stop listening to a busy run, listen again to a quiet one."""
        now = time.monotonic()
        elapsed = now - self._counted_at
        if self.busy:
            if not growing:
                self.busy = False
                self._handler.count = 0
                self._counted_at = now
                self._rewatch()
        elif elapsed >= 0.5:
            if self._handler.count > _BUSY * elapsed:
                self.busy = True
                self._unwatch()
            self._handler.count = 0
            self._counted_at = now

    def stop(self) -> None:
        """Stop listening."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()  # type: ignore[attr-defined]

    def _rewatch(self) -> None:
        if self._observer is not None and self._followed is not None:
            with contextlib.suppress(OSError, RuntimeError, KeyError):
                self._watch = self._observer.schedule(  # type: ignore[attr-defined]
                    self._handler, str(self._followed), event_filter=_KINDS
                )

    def _unwatch(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and self._observer is not None:
            with contextlib.suppress(OSError, RuntimeError, KeyError):
                self._observer.unschedule(watch)  # type: ignore[attr-defined]
