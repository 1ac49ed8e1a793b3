"""Runs as they lie on disk, and an app that shows what a test hands it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from monitor.app import MonitorApp
from monitor.data.machine import MachineView
from monitor.data.views import RunDetail, RunView, Snapshot
from shared.run.metrics_rows import Series
from tests.waiting import SECONDS

NOW = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC


def series(key: str, values: Any, every: int = 1) -> Series:
    """A series whose i-th value is at step i * every."""
    array = np.asarray(values, np.float64)
    return Series(key, np.arange(len(array), dtype=np.int64) * every, array)


def view(run_id: str = "run_1", **fields: Any) -> RunView:
    """A run in the list."""
    values: dict[str, Any] = {
        "path": Path("/nowhere") / run_id,
        "label": run_id,
        "name": run_id,
        "status": "running",
        "reason": "",
        "alive": True,
        "started_at": NOW - 3600,
        "updated_at": NOW,
    }
    return RunView(run_id=run_id, **{**values, **fields})


def write_run(runs_dir: Path, run_id: str, state: dict[str, Any], lines: bytes = b"") -> Path:
    """A run directory as some trainer left it."""
    folder = runs_dir / run_id
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "control").mkdir()
    (folder / "run_state.json").write_text(json.dumps({"run_id": run_id, **state}))
    (folder / "metrics.jsonl").write_bytes(lines)
    return folder


def metric_lines(count: int, start: int = 0) -> bytes:
    """Lines of a falling loss."""
    return b"".join(
        b'{"step": %d, "loss": %.4f, "attempt": 1}\n' % (s, 1 + 5 / (s + 1))
        for s in range(start, start + count)
    )


class StillSource:
    """A source that publishes only what the test gives it."""

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.snapshot = snapshot
        self.publish: Callable[[Snapshot], None] = lambda _: None
        self.selected: list[str | None] = []
        self.followed: list[frozenset[str]] = []
        self.refreshed = 0
        self.stopped = False

    def start(self, publish: Callable[[Snapshot], None]) -> None:
        self.publish = publish
        if self.snapshot is not None:
            publish(self.snapshot)

    def select(self, run_id: str | None) -> None:
        self.selected.append(run_id)

    def follow(self, run_ids: frozenset[str]) -> None:
        self.followed.append(run_ids)

    def refresh(self) -> None:
        self.refreshed += 1

    def stop(self) -> None:
        self.stopped = True


def snapshot(*runs: RunView, detail: RunDetail | None = None, **fields: Any) -> Snapshot:
    """A snapshot of these runs."""
    return Snapshot("runs", NOW, runs, detail, **fields)


def watched(
    *runs: RunView,
    detail: RunDetail | None = None,
    machine: MachineView | None = None,
    **options: Any,
) -> tuple[MonitorApp, StillSource]:
    """An app whose clock stands at NOW, and the source of all it sees."""
    source = StillSource(snapshot(*runs, detail=detail, machine=machine))
    return MonitorApp(source, Path("runs"), clock=lambda: NOW, **options), source


def still_app(*runs: RunView, detail: RunDetail | None = None, **options: Any) -> MonitorApp:
    """The same for a test that publishes nothing later."""
    return watched(*runs, detail=detail, **options)[0]


def screen_text(app: MonitorApp) -> str:
    """What is on the screen, as text."""
    width, height = app.size
    strips = app.screen._compositor.render_strips(app.size)
    assert len(strips) <= height
    return "\n".join("".join(s.text for s in strip)[:width] for strip in strips)


async def until(pilot: Any, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Let the app work until `condition` holds."""
    deadline, wait = time.monotonic() + seconds, 0.0
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition never became true"
        await asyncio.sleep(wait)
        await pilot.pause()
        wait = min(wait + 0.005, 0.05)


def with_status(run: RunView, status: str, **fields: Any) -> RunView:
    """The same run in another status."""
    return dataclasses.replace(run, status=status, **fields)
