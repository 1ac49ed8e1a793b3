"""The end of a worker: how it ended and what follows, both recorded in the run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared.control.idle_run import IdleRun
from shared.control.requests import pending
from shared.run.log import last_log_line
from shared.run.records import ACTIVE_STATUSES, RunState
from shared.text import one_line
from trainer.daemon.care import WAITING, Care
from trainer.daemon.memory import killed_for_memory, smaller_micro_batch
from trainer.daemon.policy import Done, Ending, GiveUp, Hopeless, RestartLimits, decide
from trainer.daemon.workers import describe_end

_STEP = re.compile(r"step_(\d{1,16})")
_SIGKILL = -9


@dataclass(frozen=True)
class Outcome:
    """What follows: `care` is None if nothing does, else the run waits `delay` seconds."""

    said: str
    care: Care | None = None
    delay: float = 0.0


def saved_step(state: RunState) -> int:
    """The step of the newest checkpoint; -1 without one."""
    match = _STEP.fullmatch(state.latest_checkpoint or "")
    return int(match.group(1)) if match else -1


def record_end(
    record: IdleRun,
    care: Care,
    code: int | None,
    limits: RestartLimits,
    now: float,
    *,
    draining: bool,
    oom_kills: Mapping[str, int],
) -> Outcome:
    """Record how the worker of `care` ended and decide what follows.

    `code` is its exit code, negative for a signal, None if unknown. `draining`: this
    daemon starts nothing more. `oom_kills` are the kernel's counters now. Raises OSError
    when it cannot be written.
    """
    state = record.state
    began = state.attempt > care.attempt
    if code is None and began and state.exit is not None:
        code = state.exit.code
    ended_by_person = state.status in ("cancelled", "completed")
    ending = Ending(
        status=state.status if began or ended_by_person else "",
        code=code,
        final=began and state.exit is not None and state.exit.final,
        saved_step=saved_step(state),
    )
    decision, history = decide(ending, care.history, limits, now)
    reason = _describe(record, code, began=began)
    for request in pending(record.run.control):
        if request.action == "resume":  # the request for the start that ended like this
            record.answer(request, ok=False, message=f"the trainer ended: {reason}")
    if isinstance(decision, Done):
        return Outcome(state.status)
    if isinstance(decision, Hopeless):
        return _hopeless(record, code, reason, began=began)
    if decision.crashed:
        reason += _want_of_memory(record, care, code, oom_kills)
        number = -code if code is not None and code < 0 else None
        record.event("crashed", message=reason, code=code, signal=number)
    elif began:
        reason = f"preempted at step {state.current_step}"
    if isinstance(decision, GiveUp):
        return _give_up(record, decision, code, reason, limits)
    count = f" ({decision.number} of {limits.max_restarts})" if decision.number else ""
    when = "when a daemon watches again" if draining else f"in {decision.delay:.0f} s"
    message = f"starting again {when}{count}"
    record.event(
        "restarting", message=message, delay_seconds=decision.delay, restarts=decision.number
    )
    waiting = replace(
        care,
        phase=WAITING,
        worker=None,
        history=history,
        reason=reason,
        next_start=now + decision.delay,
    )
    return Outcome(f"{reason.rstrip('.')}; {message}", waiting, decision.delay)


def _describe(record: IdleRun, code: int | None, *, began: bool) -> str:
    """How it ended, with the trainer's own words."""
    words = ""
    if code is None or code > 0:
        if not began:
            words = last_log_line(record.run)
        elif record.state.exit is not None:
            words = one_line(record.state.exit.reason, 300)
    return describe_end(code, record.state.current_step, words)


def _hopeless(record: IdleRun, code: int | None, reason: str, *, began: bool) -> Outcome:
    """A restart would end the same way."""
    status = record.state.status
    # A run that has ended well must not become failed because it could not continue.
    unended = status in ("queued", "preempted") or status in ACTIVE_STATUSES
    if unended or (began and record.state.exit is None):
        record.end("failed", code or 1, reason)
    return Outcome(f"{reason.rstrip('.')}; a restart would not help")


def _give_up(
    record: IdleRun, decision: GiveUp, code: int | None, reason: str, limits: RestartLimits
) -> Outcome:
    if limits.max_restarts == 0:
        message = f"not started again (--max-restarts 0): {reason}"
    else:
        minutes = max(1, round(decision.seconds / 60))
        message = (
            f"given up after {decision.attempts} attempts in {minutes} min without a new "
            f"checkpoint; the last: {reason}"
        )
    exit_code = 1 if code is None else 128 - code if code < 0 else code
    record.end("failed", exit_code, message)
    record.event("gave_up", message=message)
    return Outcome(message)


def _want_of_memory(
    record: IdleRun, care: Care, code: int | None, oom_kills: Mapping[str, int]
) -> str:
    """A note if the kernel killed it when out of memory; halves the micro-batch then."""
    if code not in (None, _SIGKILL) or not killed_for_memory(dict(care.oom_kills), dict(oom_kills)):
        return ""
    words = ", probably by the kernel because it was out of memory"
    smaller = smaller_micro_batch(record.state.micro_batch, record.run.config_path)
    if smaller is not None:
        record.update(micro_batch=smaller)
        words += f"; the next attempt uses a micro-batch of {smaller}"
    return words
