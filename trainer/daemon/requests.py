"""How a daemon answers requests to a run without a trainer: one function per action."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from shared.control.idle_run import IdleRun
from shared.control.requests import Request, served_by
from shared.errors import UserError
from shared.text import format_duration, one_line
from trainer.daemon.care import Care

OLDEST = 3600.0  # seconds: nobody waits longer for an answer


class Act(Enum):
    """What the supervisor does besides answering."""

    NOTHING = "nothing"
    START = "start"
    QUEUE = "queue"
    CANCEL = "cancel"
    UPLOAD = "upload"


@dataclass(frozen=True)
class Case:
    """A request and its context. No trainer owns the run; `idle` holds its lock.

    `status` is the observed one (crashed, …). `care` is None if the run is not under care. `full`
    says why it cannot start now (empty: it can).
    """

    idle: IdleRun
    status: str
    request: Request
    care: Care | None = None
    full: str = ""


@dataclass(frozen=True)
class Verdict:
    """The answer. With `ok` None, the trainer that is about to start or the requested upload
    answers later.
    """

    ok: bool | None
    message: str = ""
    act: Act = Act.NOTHING


Handler = Callable[[Case], Verdict]


def serve(case: Case, now: float | None = None) -> Verdict:
    """What to answer and to do. Never raises because of the request's content."""
    age = (time.time() if now is None else now) - case.request.asked_at
    if age > OLDEST:
        when = format_duration(age)
        return Verdict(False, f"requested {when} ago, when nobody could act; ask again")
    handler = HANDLERS.get(case.request.action)
    if handler is None:
        asked = one_line(case.request.action, 40)
        known = ", ".join(served_by("daemon"))
        return Verdict(
            False,
            f"unknown action {asked!r}; without a trainer, a daemon answers {known}",
        )
    try:
        return handler(case)
    except (UserError, OSError) as error:
        return Verdict(False, one_line(error, 500))


def _resume(case: Case) -> Verdict:
    if case.status == "queued":
        return Verdict(True, "the run is queued and starts when there is room")
    if case.status == "completed":
        return Verdict(
            False,
            "the run is completed; continue it with: trainer resume RUN --max-steps N",
        )
    if case.care is None and case.full:
        return Verdict(True, f"queued: {case.full}", Act.QUEUE)
    return Verdict(None, act=Act.START)


def _stop(case: Case) -> Verdict:
    if case.status == "queued":
        return Verdict(True, "taken out of the queue", Act.CANCEL)
    if case.care is not None:
        return Verdict(True, "it is not started again", Act.CANCEL)
    return Verdict(False, f"the run is {case.status}: there is no process to stop")


def _needs_trainer(case: Case) -> Verdict:
    return Verdict(
        False, f"the run is {case.status}: there is no trainer to {case.request.action} it"
    )


def _prune(case: Case) -> Verdict:
    from shared.checkpoints.prune import serve_prune

    message = serve_prune(case.idle.run, case.request.arguments, case.idle.event)
    return Verdict(True, message)


def _upload(_case: Case) -> Verdict:
    return Verdict(None, act=Act.UPLOAD)


def _uploaded(case: Case) -> Verdict:
    from shared.hub.record import serve_uploaded

    answer = serve_uploaded(case.request.arguments, case.idle.event, case.idle.update)
    return Verdict(True, answer)


def _evaluated(case: Case) -> Verdict:
    from shared.checkpoints.evaluation_record import serve_evaluated

    return Verdict(True, serve_evaluated(case.request.arguments, case.idle.event))


#: All actions that a daemon answers. Others are refused with the list of these.
HANDLERS: Mapping[str, Handler] = {
    "resume": _resume,
    "stop": _stop,
    "cancel": _stop,
    "pause": _needs_trainer,
    "checkpoint": _needs_trainer,
    "prune": _prune,
    "upload": _upload,
    "uploaded": _uploaded,
    "evaluated": _evaluated,
}
