"""Steering a run: asking its trainer or a daemon, or starting a trainer here.

Every function returns a sentence about what was done, or raises UserError with the reason why not.
Functions that wait run in a thread of their own. `give_up(seconds)` sleeps and returns True to stop
waiting; the result is empty then.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from monitor.data.scanner import RunScanner
from monitor.data.views import RESUMABLE, RunView
from shared.checkpoints.resumable import why_no_trainer_resumes
from shared.control import client
from shared.control.client import Answer, Asked
from shared.control.daemons import DaemonView, find_daemons, watching, would_start
from shared.control.idle_run import IdleRun
from shared.control.launch import resume_detached, wait_until_running
from shared.control.waiting import Patience
from shared.errors import RunError, UserError
from shared.ownership.process import host_name
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from shared.text import one_line

_DAEMON = "trainer daemon --runs-dir {} --detach"

GiveUp = Callable[[float], bool]


class Launcher(Protocol):
    """Starts a trainer on a run and returns its status once it runs."""

    def __call__(self, run: RunDirectory) -> str:
        """Raises UserError if it does not start."""


def launch(run: RunDirectory) -> str:
    """Resume `run` in its own process; returns its status once it runs."""
    return wait_until_running(run, resume_detached(run))


# -- resuming ----------------------------------------------------------------------------------


def why_not_resumable(view: RunView) -> str:
    """Why `view` cannot be resumed, as a sentence; empty if it can."""
    return why_status_not_resumable(view) or why_no_trainer_resumes(RunDirectory(view.path))


def why_status_not_resumable(view: RunView) -> str:
    """The same by its status alone, without a look at its files."""
    if view.alive:
        return (
            f"{view.label} is {view.status} (process {view.pid} on {view.host}); nothing to resume."
        )
    if view.status == "completed":
        return f"{view.label} is completed; continue it with `trainer resume RUN --max-steps N`."
    if not view.stateless and view.status not in RESUMABLE | {"queued"}:
        return f"{view.label} is {view.status}; only a run that has ended can be resumed."
    return ""


def resume(
    view: RunView,
    launcher: Launcher = launch,
    give_up: GiveUp | None = None,
    patience: Patience | None = None,
) -> str:
    """Start the trainer of an ended run again: by a daemon where one watches, else from here.

    Raises UserError when the run is alive, completed or belongs to another host, RunError when the
    trainer does not start.
    """
    view = _look_again(view)
    reason = why_not_resumable(view)
    if reason:
        raise UserError(reason)
    run = RunDirectory(view.path)
    daemons = watching(view.path.parent)
    if view.status == "queued":
        return _told_of_queue(view, daemons)
    if daemons:
        return _resume_by_daemon(view, patience_of(give_up, patience))
    host = (run.read_state() or RunState()).host
    if host not in ("", host_name()):
        command = _DAEMON.format(shlex.quote(one_line(view.path.parent)))
        raise UserError(
            f"{view.label} last ran on {one_line(host, 80)}, and no daemon watches it: "
            f"start one there ({command}) and R reaches it, or resume it there by hand."
        )
    status = launcher(run)
    return f"{view.label} is {one_line(status, 20)} again."


def _told_of_queue(view: RunView, daemons: list[DaemonView]) -> str:
    """What a queued run waits for. Raises UserError if no daemon would start it."""
    if not daemons:
        command = _DAEMON.format(shlex.quote(one_line(view.path.parent)))
        raise UserError(f"{view.label} is queued, and there is no daemon to start it: {command}")
    queue = next((d.queue for d in daemons if view.run_id in d.queue), ())
    before = queue.index(view.run_id) if queue else 0
    behind = f" behind {before} other{'s' if before > 1 else ''}" if before else ""
    return f"{view.label} is queued already{behind}; it starts when there is room."


def _resume_by_daemon(view: RunView, patience: Patience) -> str:
    asked = _ask(view, "resume", None, patience)
    for look in asked.looks(by_daemon=True):
        if look.answer is not None:
            return sentence(view, look.answer)
        # A first step may take minutes, and the trainer answers only after it.
        if look.alive and look.state.status == "running" and look.state.attempt > view.attempt:
            return f"{view.label} is running again (attempt {look.state.attempt})."
    return ""


def _look_again(view: RunView) -> RunView:
    """`view` as it is now: someone may have acted since the last snapshot."""
    views = RunScanner(view.path.parent, time.time).scan()
    found = next((v for v in views if v.run_id == view.run_id), None)
    return view if found is None else dataclasses.replace(found, label=view.label)


# -- asking ------------------------------------------------------------------------------------


def why_no_request(view: RunView, action: str) -> str:
    """Why the trainer of `view` cannot do `action`; empty if it can be asked."""
    if not view.alive:
        return f"{view.label} is {view.status}: there is no trainer to {action} it."
    if view.status == "stopping" and action != "checkpoint":
        return f"{view.label} is already stopping."
    return ""


def ask(
    view: RunView,
    action: str,
    arguments: Mapping[str, Any] | None = None,
    give_up: GiveUp | None = None,
    patience: Patience | None = None,
) -> str:
    """Ask the trainer of `view` for `action`; returns its answer once it has acted.

    Raises UserError when there is no trainer, RunError when it refuses or does not answer.
    """
    reason = why_no_request(view, action)
    if reason:
        raise UserError(reason)
    return sentence(view, _ask(view, action, arguments, patience_of(give_up, patience)).wait())


def _ask(
    view: RunView, action: str, arguments: Mapping[str, Any] | None, patience: Patience
) -> Asked:
    run = RunDirectory(view.path)
    return client.ask(run, action, arguments, label=view.label, patience=patience)


def patience_of(give_up: GiveUp | None, patience: Patience | None = None) -> Patience:
    """How long to wait, until `give_up` stops the wait."""
    patience = patience or Patience()
    return dataclasses.replace(patience, pause=give_up) if give_up else patience


def sentence(view: RunView, answer: Answer | None) -> str:
    """An answer as a sentence; empty if there is none. Raises RunError for a refusal."""
    if answer is None:
        return ""
    told = f"{view.label}: {one_line(answer.message, 400)}"
    if not answer.ok:
        raise RunError(told)
    return told


# -- stopping ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Question:
    """A question to a person, and the consequence of a yes."""

    question: str
    consequence: str


def stop_question(view: RunView, name: str = "") -> Question:
    """What to ask before stopping `view`, shown as `name`. Raises UserError if there is nothing to.

    Whether a daemon would restart a dead run is checked by `stop`, which may wait for a disk.
    """
    name = name or view.label
    if view.alive:
        reason = why_no_request(view, "stop")
        if reason:
            raise UserError(reason)
        return Question(f"Stop {name}?", "It saves a checkpoint and ends. R resumes it.")
    if view.status == "queued":
        return Question(f"Take {name} out of the queue?", "It is not started. R resumes it later.")
    if view.supervised and view.status in RESUMABLE:
        return Question(
            f"Give up the restart of {name}?",
            "If a daemon is about to start it again, it does not. R resumes it.",
        )
    raise UserError(why_no_request(view, "stop"))


def stop(view: RunView, give_up: GiveUp | None = None, patience: Patience | None = None) -> str:
    """Let a run save and end, or prevent the start of one that waits.

    Returns when the run has ended. Raises UserError when there is nothing to stop.
    """
    view = _look_again(view)
    run = RunDirectory(view.path)
    patience = patience_of(give_up, patience)
    if not view.alive:
        return _cancel(view, run, patience)
    reason = why_no_request(view, "stop")
    if reason:
        raise UserError(reason)
    # A daemon that serves a run holds its lock for a moment, and looks like a trainer.
    by_daemon = bool(watching(view.path.parent))
    try:
        answer = sentence(view, _ask(view, "stop", None, patience).wait(by_daemon=by_daemon))
    except RunError:
        # It died in the same moment, and a daemon would start it again.
        if not _waits(view, run):
            raise
        return _cancel(_look_again(view), run, patience)
    ended = client.wait_until_ended(run, patience) if answer else None
    if ended is None:
        return answer
    return f"{view.label} is {one_line(ended.status, 20)} at step {ended.current_step:,}."


def _cancel(view: RunView, run: RunDirectory, patience: Patience) -> str:
    """Prevent the start of a run that waits: by its daemon, or here if no daemon watches."""
    if _waits(view, run):
        if watching(view.path.parent):
            return sentence(view, _ask(view, "stop", None, patience).wait(by_daemon=True))
        return _cancel_here(view, run)
    state = run.read_state() or RunState()
    if state.status == "queued":
        raise UserError(f"{view.label} is about to be started by {one_line(state.host) or 'hand'}.")
    raise UserError(why_no_request(view, "stop"))


def _waits(view: RunView, run: RunDirectory) -> bool:
    """Whether a daemon, or the successor of a dead one, would start the run."""
    state = run.read_state() or RunState()
    if state.status in ("completed", "cancelled"):
        return False
    if state.status == "queued":
        return state.supervised
    return would_start(find_daemons(view.path.parent), view.run_id)


def _cancel_here(view: RunView, run: RunDirectory) -> str:
    """Record in the run itself that it is cancelled, so that no daemon starts it."""
    reason = "taken out of the queue by train-monitor"
    try:
        with IdleRun(run) as idle:
            idle.end("cancelled", 0, reason)
    except OSError as error:
        raise RunError(f"{view.label} cannot be changed: {error.strerror}.") from error
    return f"{view.label} is cancelled: {reason}."
