"""What to do with a run whose trainer ended: nothing, restart, or give up. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace

from shared.errors import ExitCode
from shared.json_text import Json, is_number

FIRST_DELAY = 1.0  # seconds, doubled with every attempt without a new checkpoint
LONGEST_DELAY = 300.0
REQUEUE_DELAY = 2.0  # seconds: whatever preempted the run may be about to end this daemon too
#: Attempts without a new checkpoint, as a multiple of `max_restarts`, regardless of their times.
HARD_LIMIT = 4


@dataclass(frozen=True)
class RestartLimits:
    """At most `max_restarts` within `window` seconds without a new checkpoint.

    Delays are in seconds: `first_delay` doubles with every attempt without a new checkpoint.
    """

    max_restarts: int = 5
    window: float = 3600.0
    first_delay: float = FIRST_DELAY
    requeue_delay: float = REQUEUE_DELAY


@dataclass(frozen=True)
class History:
    """The attempts that failed since the last new checkpoint.

    `failures` are their times (Unix seconds); `saved_step` is the step of the newest checkpoint
    when the last attempt was started; -1 without one.
    """

    failures: tuple[float, ...] = ()
    saved_step: int = -1

    def to_json(self) -> Json:
        """As it is stored in `runs.json`."""
        return {"failures": list(self.failures), "saved_step": self.saved_step}

    @classmethod
    def from_json(cls, value: object) -> History:
        """Read any object. Invalid fields are ignored."""
        record = value if isinstance(value, dict) else {}
        failures, saved = record.get("failures"), record.get("saved_step")
        times = failures if isinstance(failures, list) else []
        return cls(
            tuple(float(x) for x in times if is_number(x)), saved if type(saved) is int else -1
        )


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    `status` is the recorded one; `code` the exit code, negative for a signal, None if unknown;
    `final` as in the exit record; `saved_step` of the newest checkpoint now, -1 without one.
    """

    status: str
    code: int | None
    final: bool = False
    saved_step: int = -1


@dataclass(frozen=True)
class Done:
    """Nothing to do: the run is complete, or a person ended it."""


@dataclass(frozen=True)
class Hopeless:
    """A restart would end the same way."""


@dataclass(frozen=True)
class GiveUp:
    """Too many failures: `attempts` without a new checkpoint within `seconds`."""

    attempts: int
    seconds: float
    crashed: bool


@dataclass(frozen=True)
class Restart:
    """Restart after `delay` seconds; `number` counts starts without a new checkpoint."""

    delay: float
    number: int
    crashed: bool


Decision = Done | Hopeless | GiveUp | Restart


def decide(
    ending: Ending, history: History, limits: RestartLimits, now: float
) -> tuple[Decision, History]:
    """What follows an ending, and the history to remember. `now` is Unix seconds.

    A newer checkpoint than at the last start clears the history. A preempted run that saved one is
    always restarted; one that did not counts as crashed, or it would restart endlessly if something
    stopped it during every start.
    """
    if ending.saved_step > history.saved_step:
        history = History((), ending.saved_step)
        progressed = True
    else:
        progressed = False
    if ending.status in ("completed", "cancelled") or ending.code == ExitCode.OK:
        return Done(), history
    if ending.final or ending.code == ExitCode.USAGE:
        return Hopeless(), history
    preempted = ending.code == ExitCode.REQUEUE or (
        ending.code is None and ending.status == "preempted"
    )
    if preempted and progressed:
        return Restart(limits.requeue_delay, 0, crashed=False), history
    failures = (*history.failures, now)
    history = replace(history, failures=failures)
    recent = [t for t in failures if t > now - limits.window]
    # Without the hard limit, attempts longer than the window could fail forever.
    if len(recent) > limits.max_restarts or len(failures) > HARD_LIMIT * limits.max_restarts:
        span = max(0.0, now - failures[0])
        return GiveUp(len(failures), span, crashed=not preempted), history
    delay = min(LONGEST_DELAY, limits.first_delay * 2.0 ** min(len(failures) - 1, 30))
    if preempted:
        delay = max(delay, limits.requeue_delay)
    return Restart(delay, len(failures), crashed=not preempted), history
