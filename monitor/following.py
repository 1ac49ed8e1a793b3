"""`--json --follow`: what changes in a runs directory, one JSON object per line, as it happens."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from typing import Any

from monitor.data.poller import Source
from monitor.data.views import EventView, RunDetail, RunView, Snapshot
from monitor.report import REPORT_VERSION, change_report, event_report, points_report
from shared.json_text import Json

_WAIT = 0.5  # seconds; a signal is served in between


class Changes:
    """Turns snapshots into what is new in them."""

    def __init__(self, only: str | None = None) -> None:
        self._only = only
        self._runs: dict[str, RunView] = {}
        self._problem = self._notice = ""
        self._points: dict[str, tuple[int, int]] = {}
        self._event: EventView | None = None
        self._began = False

    def of(self, snapshot: Snapshot) -> Iterator[Json]:
        """The lines that tell of `snapshot` what was not told yet."""
        now = snapshot.taken_at
        if not self._began:
            self._began = True
            yield {
                "type": "start",
                "time": now,
                "report_version": REPORT_VERSION,
                "runs_dir": snapshot.runs_dir,
            }
        if snapshot.problem != self._problem:
            self._problem = snapshot.problem
            yield {"type": "problem", "time": now, "problem": snapshot.problem}
        if snapshot.notice != self._notice:
            self._notice = snapshot.notice
            yield {"type": "notice", "time": now, "notice": snapshot.notice}
        runs = {v.run_id: v for v in snapshot.runs if self._only in (None, v.run_id)}
        for run_id in [run_id for run_id in self._runs if run_id not in runs]:
            if not snapshot.problem:
                del self._runs[run_id]
                yield {"type": "gone", "time": now, "run_id": run_id}
        for run_id, view in runs.items():
            if repr(self._runs.get(run_id)) != repr(view):  # NaN is equal to itself there
                self._runs[run_id] = view
                yield {"type": "run", "time": now, "run": change_report(view, now)}
        detail = snapshot.detail
        if self._only is not None and detail is not None and detail.run_id == self._only:
            yield from self._details(detail, now)

    def _details(self, detail: RunDetail, now: float) -> Iterator[Json]:
        if detail.loading is not None or detail.approximate:
            return
        for step, values in points_report(detail, self._points):
            yield {
                "type": "point",
                "time": now,
                "run_id": detail.run_id,
                "step": step,
                "metrics": values,
            }
        events = list(detail.events)
        if self._event in events:
            events = events[events.index(self._event) + 1 :]
        for event in events:
            self._event = event
            told = {"type": "event", "run_id": detail.run_id}
            yield {**told, **event_report(event)}


def follow(
    source: Source,
    write: Callable[[Json], None],
    *,
    only: str | None = None,
    is_over: Callable[[], bool] = lambda: False,
) -> None:
    """Write every change of `source` until `is_over` or an interrupt."""
    waiting: queue.Queue[Snapshot] = queue.Queue()
    changes = Changes(only)
    source.select(only)
    source.start(waiting.put)
    try:
        while not is_over():
            try:
                snapshot: Any = waiting.get(timeout=_WAIT)
            except queue.Empty:
                continue
            for line in changes.of(snapshot):
                write(line)
    finally:
        source.stop()
