"""Passing on the events of the runs under care, for alerts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from shared.json_text import Json
from shared.ownership.health import Health, observe
from shared.ownership.heartbeat import SILENT_AFTER, read_beat
from shared.run.directory import RunDirectory
from shared.run.record_lines import parse_lines
from shared.run.records import RunState
from shared.run.tail import Tailer

Notice = Callable[[RunDirectory, Json], None]
HEALTH_EVERY = 2.0  # seconds between looks for a stall


class EventFeed:
    """Passes every new event of the followed runs to `notice`, and reports stalls.

    A trainer that is stopped as a whole (SIGSTOP, a dead disk) cannot report its stall, and nobody
    else may write into the run. So these `stalled` and `stall_over` events only go to `notice`.
    """

    def __init__(
        self,
        notice: Notice,
        *,
        health_every: float = HEALTH_EVERY,
        health: Callable[[RunDirectory, RunState], Health] = observe,
        silent_after: float = SILENT_AFTER,
    ) -> None:
        self._notice = notice
        self._health_every, self._health = health_every, health
        self._silent_after = silent_after
        self._tailers: dict[str, tuple[RunDirectory, Tailer]] = {}
        self._stalled: set[str] = set()
        self._looked_at = 0.0

    def follow(self, run: RunDirectory) -> None:
        """Pass on the events of `run` from now on."""
        if run.run_id in self._tailers:
            return
        tailer = Tailer(run.events_path)
        while tailer.read().more:
            pass
        self._tailers[run.run_id] = (run, tailer)

    def drop(self, run_id: str) -> None:
        """Pass on the last events of a run and stop following it."""
        if run_id in self._tailers:
            self._read(*self._tailers.pop(run_id))
        self._stalled.discard(run_id)

    def poll(self, running: Iterable[str]) -> None:
        """Read new events; `running` are the runs that should be making steps."""
        for run, tailer in self._tailers.values():
            self._read(run, tailer)
        if time.monotonic() - self._looked_at >= self._health_every:
            self._looked_at = time.monotonic()
            for run_id in running:
                if run_id in self._tailers:
                    self._look(self._tailers[run_id][0])

    def _read(self, run: RunDirectory, tailer: Tailer) -> None:
        while True:
            chunk = tailer.read()
            for record in parse_lines(chunk.lines)[0]:
                self._notice(run, record)
            if not chunk.more:
                return

    def _look(self, run: RunDirectory) -> None:
        state = run.read_state() or RunState()
        health = self._health(run, state)
        beat = read_beat(run.heartbeat_path)
        silent = beat is None or beat.age(time.time()) > self._silent_after
        stalled = health.status == "stalled" and silent
        if stalled == (run.run_id in self._stalled):
            return
        if stalled:
            self._stalled.add(run.run_id)
        else:
            self._stalled.discard(run.run_id)
        record: Json = {
            "time": time.time(),
            "event": "stalled" if stalled else "stall_over",
            "step": state.current_step,
            "attempt": state.attempt,
            "message": health.reason if stalled else f"it continues at step {state.current_step}",
        }
        self._notice(run, record)
