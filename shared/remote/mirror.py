"""A private copy of a host's runs folder, kept in step: what grows is fetched by ranges, small
files whole, and of all others there is a file of the same size without content."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from shared.files import replace_file
from shared.ownership.health import Health, observe
from shared.ownership.heartbeat import BeatWatch
from shared.remote.agent import MAX_ENTRIES, is_plain_path
from shared.remote.client import Link, LinkError, RefusedError
from shared.remote.protocol import MAX_BODY
from shared.run.directory import RunDirectory
from shared.run.records import ACTIVE_STATUSES, RunState
from shared.text import format_bytes, one_line

_GROWING = frozenset({".jsonl", ".log", ".csv", ".tsv", ".wandb"})
_WHOLE = frozenset({".json", ".yaml", ".yml", ".txt", ".db", ".db-wal", ".sqlite", ""})
_NEEDED = frozenset({"run_state.json", "manifest.json", "trainer_state.json"})
_SMALL, _MOST = 256 << 10, 16 << 20  # bytes fetched whole: of any such file, of a needed one
_PIECE = 256 << 10  # bytes of one file before another one has its turn
_OVERLAP = 512  # bytes that show whether a file is still the one that was read
#: Bytes of all copies together: a laptop's disk is no place for a cluster's logs.
LIMIT = 8 << 30
_MAX_TIME = 1e11  # Unix seconds
_MOST_PARTS = 1_000  # of one listing
_MAX_SIZE = 1 << 50  # bytes of a file that a listing may claim


@dataclass(frozen=True)
class _Remote:
    """An entry of the host's listing; times in ns."""

    kind: str
    size: int
    mtime: int
    inode: int
    target: str


@dataclass
class _Copy:
    """What of a growing file is here. `checked`: it is known to be the start of the host's file."""

    inode: int
    size: int
    checked: bool = True


class Mirror:
    """The copy below `root`. Of each path, the file here is never ahead of the host's."""

    def __init__(self, root: Path, prefix: str = "") -> None:
        """`prefix` is put before the name of everything at the top, where hosts share a root."""
        self._root = root
        self._prefix = prefix
        self._remote: dict[str, _Remote] = {}
        self._seen: set[str] | None = None
        self._copies: dict[str, _Copy] = {}
        self._held: dict[str, int] = {}
        self._due: dict[str, None] = {}
        self._health: dict[str, tuple[str, bool, str, str]] = {}
        self._judged: dict[str, Health] = {}
        self._skew = 0.0
        self._truncated = self._full = False
        self._unwritten = ""

    @property
    def behind(self) -> bool:
        """Whether there is something left to fetch."""
        return bool(self._due)

    @property
    def incomplete(self) -> str:
        """What is not copied, in a sentence; empty if everything is."""
        if self._truncated:
            return f"Only {MAX_ENTRIES:,} files of the folder are listed; watch a folder inside it."
        if self._unwritten:
            return f"Not everything could be copied: {self._unwritten}; free some space in TMPDIR."
        if self._full:
            return (
                f"Only the first {format_bytes(LIMIT)} are copied; watch a folder with fewer runs."
            )
        return ""

    def reconnected(self) -> None:
        """A new link: its first look tells everything again, and nothing is taken on trust."""
        self._seen = set()
        for copy in self._copies.values():
            copy.checked = False

    def step(self, link: Link, wait: float, first: str | None = None, budget: float = 0.5) -> bool:
        """Look for changes, and fetch for up to `budget` seconds; True if something was done.

        `first` is the run whose files come first. Raises LinkError.
        """
        changed = self._look(link, 0.0 if self._due else wait)
        deadline = time.monotonic() + budget
        while self._due and time.monotonic() < deadline:
            changed = True
            for path in sorted(self._due, key=lambda p: self._turn(p, first)):
                if path in self._due:
                    self._fetch(link, path)
                if time.monotonic() >= deadline:
                    break
        return changed

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

    def _look(self, link: Link, wait: float) -> bool:
        everything = self._seen is not None
        changed = False
        for _ in range(_MOST_PARTS):
            answer, _ = link.request({"op": "look", "wait": wait, "all": everything})
            everything, wait = False, 0.0
            changed |= self._take(answer)
            if answer.get("more") is not True:
                break
        else:
            raise LinkError("The host lists files without end.")
        if self._seen is not None:
            for path in [path for path in self._remote if path not in self._seen]:
                self._forget(path)
            self._seen = None
        return changed

    def _take(self, answer: dict[str, Any]) -> bool:
        now = answer.get("now")
        if isinstance(now, (int, float)) and 0 < now < _MAX_TIME:
            self._skew = float(now) - time.time()
        self._truncated = answer.get("truncated", self._truncated) is True
        gone = answer.get("gone")
        # The deepest first, so that folders are empty when their turn comes.
        for path in sorted(gone if isinstance(gone, list) else [], key=str, reverse=True):
            if isinstance(path, str) and path in self._remote:
                self._forget(path)
        entries = answer.get("entries")
        entries = entries if isinstance(entries, list) else []
        for value in sorted((e for e in entries if isinstance(e, list)), key=lambda e: str(e[:1])):
            entry = _entry(value)
            if entry is not None:
                self._take_entry(str(value[0]), entry)
        health = answer.get("health")
        for run, told in (health if isinstance(health, dict) else {}).items():
            if (judged := _health(told)) is not None:
                self._health[run] = judged
        return bool(entries or gone or health)

    def _take_entry(self, path: str, entry: _Remote) -> None:
        if self._seen is not None:
            self._seen.add(path)
        before = self._remote.get(path)
        if before is None and len(self._remote) >= 2 * MAX_ENTRIES:
            self._truncated = True
            return
        if before is not None and before.kind != entry.kind:
            self._forget(path)
            before = None
        self._remote[path] = entry
        if before == entry and not self._unchecked(path):
            return
        here = self._here(path)
        with contextlib.suppress(OSError):
            if entry.kind == "d":
                here.mkdir(exist_ok=True)
            elif entry.kind == "l":
                if os.path.lexists(here):
                    here.unlink()
                here.symlink_to(self._prefix + entry.target if "/" not in path else entry.target)
            elif _how(path, entry.size) == "hole":
                self._due.pop(path, None)
                self._make_hole(here, entry)
            else:
                self._due[path] = None

    def _unchecked(self, path: str) -> bool:
        copy = self._copies.get(path)
        return copy is not None and not copy.checked

    def _make_hole(self, here: Path, entry: _Remote) -> None:
        with here.open("wb") as file:
            file.truncate(entry.size)
        self._set_time(here, entry)

    def _forget(self, path: str) -> None:
        """Remove what is gone on the host."""
        known = self._remote.get(path)
        below: list[str] = []
        if known is not None and known.kind == "d":  # all of a large folder may go, one by one
            below = [p for p in self._remote if p.startswith(path + "/")]
        for one in (*below, path):
            for kept in (self._remote, self._copies, self._held, self._due, self._health):
                kept.pop(one, None)
        here = self._here(path)
        if os.path.isdir(here) and not os.path.islink(here):  # noqa: PTH112, PTH114  never raise
            shutil.rmtree(here, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                here.unlink()

    def _here(self, path: str) -> Path:
        return self._root / (self._prefix + path)

    # -- what is in it -------------------------------------------------------------------------

    def _turn(self, path: str, first: str | None) -> tuple[bool, bool, int]:
        """States come before everything else, then the run that is looked at, then the newest."""
        run = path.partition("/")[0]
        whole = _how(path, self._remote[path].size) == "whole"
        return not whole, self._prefix + run != first, -self._remote[path].mtime

    def _fetch(self, link: Link, path: str) -> None:
        entry = self._remote[path]
        if sum(self._held.values()) + min(entry.size, _PIECE) > LIMIT:
            self._full = True
            del self._due[path]
            return
        try:
            if _how(path, entry.size) == "whole":
                self._fetch_whole(link, path, entry)
            else:
                self._fetch_piece(link, path, entry)
        except LinkError:
            raise
        except (RefusedError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._unwritten = error.strerror or "the disk is full"
            # It may be gone or closed to us; a change of it is told again.
            self._due.pop(path, None)

    def _fetch_whole(self, link: Link, path: str, entry: _Remote) -> None:
        data = b""
        while len(data) <= _MOST:
            _, part = link.request(
                {"op": "read", "path": path, "start": len(data), "size": MAX_BODY}
            )
            data += part
            if len(part) < MAX_BODY:
                break
        del self._due[path]
        here = self._here(path)
        replace_file(here, data, durable=False)
        self._held[path] = len(data)
        self._set_time(here, entry)

    def _fetch_piece(self, link: Link, path: str, entry: _Remote) -> None:
        copy = self._copies.get(path)
        if copy is None or copy.inode != entry.inode or entry.size < copy.size:
            copy = self._started_anew(path, entry)
        here = self._here(path)
        overlap = min(copy.size, _OVERLAP)
        told, data = link.request(
            {"op": "read", "path": path, "start": copy.size - overlap, "size": overlap + _PIECE}
        )
        with here.open("r+b") as file:
            file.seek(copy.size - overlap)
            known = file.read(overlap)
            if told.get("inode") != copy.inode or data[:overlap] != known:
                # Another file by now, or written anew: it begins again, at the next turn.
                self._remote[path] = _Remote(
                    "f", entry.size, entry.mtime, _whole(told.get("inode")), ""
                )
                self._started_anew(path, self._remote[path])
                return
            file.seek(copy.size)
            file.write(data[overlap:])
        copy.size += len(data) - overlap
        copy.checked = True
        self._held[path] = copy.size
        if len(data) < overlap + _PIECE or copy.size >= entry.size:
            del self._due[path]
        self._set_time(here, entry)

    def _started_anew(self, path: str, entry: _Remote) -> _Copy:
        """An empty file, which readers take for another one than that before."""
        replace_file(self._here(path), b"", durable=False)
        copy = self._copies[path] = _Copy(entry.inode, 0)
        self._held[path] = 0
        return copy

    def _set_time(self, here: Path, entry: _Remote) -> None:
        """The host's time of the last write, by our clock where the two differ visibly."""
        shift = int(self._skew * 1e9) if abs(self._skew) > 2.0 else 0
        with contextlib.suppress(OSError, OverflowError):
            os.utime(here, ns=(entry.mtime - shift, entry.mtime - shift))


def _how(path: str, size: int) -> str:
    """How a file is copied: `growing`, `whole`, or as a `hole`."""
    name = PurePosixPath(path).name
    suffix = PurePosixPath(path).suffix
    if suffix in _GROWING or "tfevents" in name:
        return "growing"
    if name in _NEEDED:
        return "whole" if size <= _MOST else "hole"
    return "whole" if suffix in _WHOLE and size <= _SMALL else "hole"


def _entry(value: list[Any]) -> _Remote | None:
    """A line of the listing; None for one that is not fit to be made here."""
    if len(value) != 6 or not is_plain_path(value[0]) or value[1] not in ("d", "f", "l"):
        return None
    path, kind, size, mtime, inode, target = value
    if not all(isinstance(n, int) for n in (size, mtime, inode)) or not 0 <= size <= _MAX_SIZE:
        return None
    try:
        os.fsencode(path)
        os.fsencode(str(target))
    except UnicodeEncodeError:
        return None
    if kind == "l" and (not is_plain_path(target) or "/" in target):
        return None
    return _Remote(kind, size, mtime, inode, target if kind == "l" else "")


def _health(value: object) -> tuple[str, bool, str, str] | None:
    if not isinstance(value, list) or len(value) != 4 or not isinstance(value[1], bool):
        return None
    status, alive, reason, alarm = value
    return one_line(status, 20), alive, one_line(reason, 500), one_line(alarm, 500)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else -1
