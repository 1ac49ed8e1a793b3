"""Scanning a runs directory several times a second at little cost."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.control.requests import names_of_requests
from shared.run.directory import RunDirectory
from shared.run.records import RunState

#: Seconds. Two changes of a folder within one tick of the filesystem's clock look like one, so a
#: folder that changed recently is listed again.
_FRESH = 2.0


@dataclass(frozen=True)
class Seen:
    """A run: its state, whether the state changed since the last scan, whether it has requests."""

    run: RunDirectory
    state: RunState
    changed: bool
    asked: bool


@dataclass
class _Known:
    run: RunDirectory
    state_path: str
    control_path: str
    signature: tuple[int, int, int] | None = None
    state: RunState | None = None
    control_time: int | None = None
    asked: bool = False


class DirectoryScan:
    """Caches the state of every run and reads it again only when its file changed."""

    def __init__(
        self,
        runs_dir: Path,
        read: Callable[[RunDirectory], RunState | None] = RunDirectory.read_state,
    ) -> None:
        """`read` reads the state of a run."""
        self.runs_dir = runs_dir
        self._read = read
        self._known: dict[str, _Known] = {}

    def look(self) -> dict[str, Seen]:
        """Every run with a readable state, by id. Raises OSError when the folder cannot be read."""
        with os.scandir(self.runs_dir) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
        known = self._known
        if len(known) != len(names) or any(name not in known for name in names):
            self._known = known = {name: known.get(name) or self._new(name) for name in names}
        seen: dict[str, Seen] = {}
        for name, entry in known.items():
            changed = self._read_state(entry)
            if entry.state is not None:
                seen[name] = Seen(entry.run, entry.state, changed, self._look_for_requests(entry))
        return seen

    def _new(self, name: str) -> _Known:
        run = RunDirectory(self.runs_dir / name)
        return _Known(run, str(run.state_path), str(run.control))

    def _read_state(self, entry: _Known) -> bool:
        try:
            stat = os.stat(entry.state_path)  # noqa: PTH116  (a Path costs more than the call)
            signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            changed = entry.state is not None
            entry.signature = entry.state = None
            return changed
        if signature == entry.signature:
            return False
        state = self._read(entry.run)
        if state is None:  # another program is writing it: read it again later
            entry.signature = None
            return False
        entry.signature, entry.state = signature, state
        return True

    @staticmethod
    def _look_for_requests(entry: _Known) -> bool:
        try:
            changed = os.stat(entry.control_path).st_mtime_ns  # noqa: PTH116
        except OSError:
            return False
        fresh = abs(time.time() - changed / 1e9) < _FRESH
        if changed != entry.control_time or entry.asked or fresh:
            entry.control_time = changed
            entry.asked = bool(names_of_requests(entry.control_path))
        return entry.asked
