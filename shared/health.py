"""What a run is really doing: its recorded status held against the signs of life."""

from __future__ import annotations

import time
from dataclasses import dataclass

from shared.heartbeat import DEAD_AFTER, Beat, read_beat
from shared.lock import lock_is_held
from shared.records import ACTIVE_STATUSES, RunState
from shared.run_directory import RunDirectory
from shared.text import format_time, one_line

STALLED_AFTER = 30.0  # seconds without a step, at least
STALLED_STEPS = 10.0  # usual step times without a step, at least


@dataclass(frozen=True)
class Health:
    """`status` as a person should see it, with the reason where it differs from the record.

    `alive` tells whether a process owns the run: while it does, nobody else may act on its files.
    """

    status: str
    alive: bool
    reason: str = ""


def is_alive(run: RunDirectory, beat: Beat | None, now: float) -> bool:
    """Whether some process owns the run now."""
    held = lock_is_held(run.lock_path)
    if beat is None:
        return bool(held)
    beating = abs(now - beat.time) < DEAD_AFTER
    if beat.process.is_here():
        # Seen from outside its container a living process has another number, but it beats; and a
        # child of a dead one may still hold the lock it inherited, but nobody beats.
        return held is not False and (beat.process.is_alive() or (bool(held) and beating))
    # Another host: its flock may not reach us, its beats do.
    return bool(held) or beating


def observe(run: RunDirectory, state: RunState, now: float | None = None) -> Health:
    """Look at the lock and the heartbeat of `run`, whose record is `state`."""
    now = time.time() if now is None else now
    beat = read_beat(run.heartbeat_path)
    alive = is_alive(run, beat, now)
    if state.status not in ACTIVE_STATUSES:
        return Health(state.status, alive, state.exit.reason if state.exit else "")
    if not alive:
        last = beat.time if beat else state.updated_at
        when = f", last seen {format_time(last, '%H:%M:%S')}" if last else ""
        host = one_line(state.host)
        reason = f"process {state.pid} on {host} is gone without an exit record{when}"
        return Health("crashed", alive=False, reason=reason)
    if state.status == "running" and beat is not None:
        usual = beat.step_seconds or 0.0
        silent = now - beat.step_time
        if silent > max(STALLED_AFTER, STALLED_STEPS * usual):
            return Health("stalled", alive=True, reason=f"no step for {silent:.0f} s")
    return Health(state.status, alive=True)
