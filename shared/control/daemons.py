"""The folder of a daemon, `RUNS_DIR/.daemon/<host>/`, and its state seen from outside."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.files import read_json
from shared.json_text import Json, is_number
from shared.ownership.heartbeat import DEAD_AFTER, BeatWatch, read_beat
from shared.ownership.lock import LockHolder, lock_is_held, read_holder
from shared.ownership.process import host_name
from shared.run.directory import slug

FOLDER = ".daemon"


@dataclass(frozen=True)
class DaemonDirectory:
    """The paths of a daemon. There is one daemon per host and runs directory."""

    path: Path

    @classmethod
    def of(cls, runs_dir: Path, host: str | None = None) -> DaemonDirectory:
        """The folder of the daemon of `host`, this one by default."""
        host = host or host_name()
        try:
            name = slug(host)
        except UserError:
            name = "host"
        return cls(runs_dir / FOLDER / name)

    @property
    def lock_path(self) -> Path:
        """Locked by the daemon."""
        return self.path / "lock"

    @property
    def heartbeat_path(self) -> Path:
        """The heartbeat, written every second."""
        return self.path / "heartbeat"

    @property
    def state_path(self) -> Path:
        """Its current state, for people and programs."""
        return self.path / "state.json"

    @property
    def care_path(self) -> Path:
        """The runs under its care, for its successor."""
        return self.path / "runs.json"

    @property
    def log_path(self) -> Path:
        """Its log."""
        return self.path / "daemon.log"

    @property
    def control(self) -> Path:
        """Requests to the daemon itself."""
        return self.path / "control"


@dataclass(frozen=True)
class DaemonView:
    """A daemon according to its files. Times are Unix seconds; texts are not sanitized.

    `runs` are the runs under its care by id: `status` (starting, running, waiting), `pid`, `gpu`,
    `restarts`, `max_restarts`, `next_start`, `reason`. `queue` are the ids that wait, in order.
    """

    directory: DaemonDirectory
    host: str
    alive: bool
    pid: int = 0
    since: float = 0.0
    alerts: bool = False
    limits: Json = field(default_factory=dict)
    gpus: tuple[Json, ...] = ()
    runs: dict[str, Json] = field(default_factory=dict)
    queue: tuple[str, ...] = ()


def is_watching(directory: DaemonDirectory, watch: BeatWatch | None = None) -> bool:
    """Whether the daemon of this folder is at work, here or on another host.

    Repeated calls pass the same `watch`, so that clocks need not agree.
    """
    beat = read_beat(directory.heartbeat_path)
    if beat is None:
        return False
    held = lock_is_held(directory.lock_path)
    if beat.process.is_here():
        return held is not False and beat.process.is_alive()
    age = (watch or BeatWatch()).age(beat, time.time())
    return bool(held) or age < DEAD_AFTER


def view_daemon(directory: DaemonDirectory) -> DaemonView:
    """The view of a daemon, alive or dead."""
    value = read_json(directory.state_path) or {}
    holder: LockHolder | None = read_holder(directory.lock_path)
    alive = is_watching(directory)
    queue, gpus, limits = value.get("queue"), value.get("gpus"), value.get("limits")
    return DaemonView(
        directory=directory,
        host=str(holder.process.host if holder else value.get("host") or directory.path.name),
        alive=alive,
        pid=holder.process.pid if holder else 0,
        since=holder.since if holder else 0.0,
        alerts=alive and value.get("alerts") is True,
        limits=limits if isinstance(limits, dict) else {},
        gpus=tuple(g for g in gpus if isinstance(g, dict)) if isinstance(gpus, list) else (),
        runs=_objects(value.get("runs")),
        queue=tuple(str(x) for x in queue) if isinstance(queue, list) else (),
    )


def _objects(value: Any) -> dict[str, Json]:
    items = value.items() if isinstance(value, dict) else ()
    return {str(k): v for k, v in items if isinstance(v, dict)}


def find_daemons(runs_dir: Path) -> list[DaemonView]:
    """All daemons that ever watched `runs_dir`: living ones first, this host's before others."""
    try:
        folders = sorted(p for p in (runs_dir / FOLDER).iterdir() if p.is_dir())
    except OSError:
        return []
    views = [view_daemon(DaemonDirectory(p)) for p in folders]
    here = host_name()
    return sorted(views, key=lambda v: (not v.alive, v.host != here, v.host))


def watching(runs_dir: Path) -> list[DaemonView]:
    """The daemons at work in `runs_dir`, this host's first."""
    return [view for view in find_daemons(runs_dir) if view.alive]


def care_of(daemons: list[DaemonView], run_id: str) -> Json | None:
    """The record of a run under the care of a living daemon; None if there is none."""
    return next((v.runs[run_id] for v in daemons if v.alive and run_id in v.runs), None)


def restarted_by(*, supervised: bool, status: str, watched: bool) -> str:
    """Who starts a run again if it crashes; empty for one that nobody would.

    `watched`: whether a daemon is at work in its runs directory.
    """
    if not supervised or status == "completed":
        return ""
    return "a daemon, if it crashes" if watched else "nobody: no daemon watches it"


def would_start(daemons: Iterable[DaemonView], run_id: str) -> bool:
    """Whether one of the daemons, or the successor of a dead one, would start the run again."""
    for daemon in daemons:
        if daemon.alive and run_id in daemon.runs:
            return True
        remembered = (read_json(daemon.directory.care_path) or {}).get("runs")
        if isinstance(remembered, dict) and run_id in remembered:
            return True
    return False


def next_start_of(care: Json) -> float | None:
    """When a waiting run will be restarted, in Unix seconds."""
    value: Any = care.get("next_start")
    return float(value) if care.get("status") == "waiting" and is_number(value) else None
