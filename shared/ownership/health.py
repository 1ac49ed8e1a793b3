"""The real status of a run: its recorded status checked against lock and heartbeat."""

from __future__ import annotations

import time
from dataclasses import dataclass

from shared.ownership.heartbeat import DEAD_AFTER, SILENT_AFTER, Beat, BeatWatch, read_beat
from shared.ownership.lock import lock_is_held
from shared.ownership.process import STOPPED
from shared.run.directory import RunDirectory
from shared.run.records import ACTIVE_STATUSES, ENDED_STATUSES, RunState
from shared.text import format_duration, format_time, one_line

STALLED_AFTER = 30.0  # seconds without a step, at least
STALLED_STEPS = 10.0  # usual step times without a step, at least


@dataclass(frozen=True)
class Health:
    """`status` for display, with the reason where it differs from the record.

    `alive`: a process owns the run, and nobody else may change its files. `alarm`: what a living
    process reports; its heartbeat carries it while the state cannot be written.
    """

    status: str
    alive: bool
    reason: str = ""
    alarm: str = ""


def is_stalled(
    idle_seconds: float, step_seconds: float | None, after: float = STALLED_AFTER
) -> bool:
    """Whether a running run has made no progress for too long, given its usual step time."""
    return idle_seconds > max(after, STALLED_STEPS * (step_seconds or 0.0))


def observe(
    run: RunDirectory, state: RunState, now: float | None = None, watch: BeatWatch | None = None
) -> Health:
    """Check the lock and the heartbeat of `run`, whose record is `state`.

    A reader that checks repeatedly passes the same `watch` each time: then the clock of another
    host need not agree with ours.
    """
    now = time.time() if now is None else now
    beat = read_beat(run.heartbeat_path)
    age = 0.0 if beat is None else (watch or BeatWatch()).age(beat, now)
    condition = beat.process.condition() if beat is not None and beat.process.is_here() else None
    alive = _is_alive(run, beat, age, condition)
    if state.status not in ACTIVE_STATUSES:
        return Health(state.status, alive, state.exit.reason if state.exit else "")
    if not alive and beat is not None and beat.end in ENDED_STATUSES:
        reason = "its last state could not be written: the disk was full"
        return Health(beat.end, alive=False, reason=reason)
    if not alive:
        last = beat.time if beat else state.updated_at
        when = f", last seen {format_time(last, '%H:%M:%S')}" if last else ""
        host = one_line(state.host)
        reason = f"process {state.pid} on {host} is gone without an exit record{when}"
        return Health("crashed", alive=False, reason=reason)
    reason = _stall(state, beat, age, condition, now) if beat is not None else ""
    alarm = one_line((beat.alarm if beat is not None else "") or state.alarm, 500)
    return Health("stalled" if reason else state.status, alive=True, reason=reason, alarm=alarm)


def _is_alive(run: RunDirectory, beat: Beat | None, age: float, condition: str | None) -> bool:
    """Whether a process owns the run; `condition` is that of a process of this host."""
    held = lock_is_held(run.lock_path)
    if beat is None:
        return bool(held)
    beating = age < DEAD_AFTER
    if beat.process.is_here():
        # Outside its container a living process has another pid, but its heartbeat changes. A child
        # of a dead process may still hold the inherited lock, but there is no heartbeat.
        return held is not False and (condition is not None or (bool(held) and beating))
    # Another host: its flock may be invisible here, but its heartbeat is not.
    return bool(held) or beating


def _stall(state: RunState, beat: Beat, age: float, condition: str | None, now: float) -> str:
    """Why a living run makes no progress; empty if it does."""
    if condition == STOPPED:
        pid = beat.process.pid
        return f"stopped by a signal (SIGSTOP or Ctrl-Z); continue it with: kill -CONT {pid}"
    if beat.idle_seconds is None:  # a writer that may beat only once per step
        idle = now - beat.step_time
    elif age > SILENT_AFTER:
        return f"no heartbeat for {format_duration(age)}"
    else:
        idle = beat.idle_seconds + age
    if state.status == "running" and is_stalled(idle, beat.step_seconds):
        return f"no step for {format_duration(idle)}"
    return ""
